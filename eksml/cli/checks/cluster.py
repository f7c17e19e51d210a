"""The checks of a Kubernetes cluster: ``eksml doctor --cluster``."""

from __future__ import annotations

from collections.abc import Callable

from eksml.backends.why import Object
from eksml.cli.checks import addons, devices, operator
from eksml.cli.checks.finding import Check, Finding
from eksml.cli.checks.view import View
from eksml.cluster.vocabulary import RAY_API

LIMIT_S = 15.0
"""A large cluster takes seconds to list its nodes."""

_KUEUE = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")


def on_cluster(view: View, eks_cluster: str | None) -> tuple[Check, ...]:
    """The checks, in the order in which a person reads them; ``eks_cluster``: asks AWS too."""

    def deployments() -> list[Object]:
        return view.all("apps/v1", "Deployment")

    def daemonsets() -> list[Object]:
        return view.all("apps/v1", "DaemonSet")

    def definitions() -> Finding:
        crd = view.definition("rayclusters.ray.io")
        return operator.definitions(lambda kind: view.has(RAY_API, kind), crd)

    return (
        Check("KubeRay operator", lambda: operator.operator(deployments())),
        Check("feature gates", lambda: operator.feature_gates(deployments()), unanswered="warn"),
        Check("KubeRay CRDs", definitions),
        *(
            Check(device.title, _plugin(view, device), unanswered="warn")
            for device in devices.DEVICES
        ),
        *_drivers(view),
        Check(
            "Karpenter",
            lambda: addons.karpenter(
                view.has("karpenter.sh/v1", "NodePool"),
                deployments(),
                view.all("karpenter.sh/v1", "NodePool"),
            ),
            unanswered="warn",
        ),
        Check(
            "Kueue",
            lambda: addons.kueue(
                any(view.has(version, "LocalQueue") for version in _KUEUE), deployments()
            ),
            unanswered="warn",
        ),
        Check("Pod Identity", lambda: addons.pod_identity(daemonsets()), unanswered="warn"),
        Check(
            "PodMonitor",
            lambda: addons.pod_monitor(view.has("monitoring.coreos.com/v1", "PodMonitor")),
            unanswered="warn",
        ),
        *((Check("node groups", lambda: _node_groups(eks_cluster)),) if eks_cluster else ()),
    )


def _plugin(view: View, device: devices.Device) -> Callable[[], Finding]:
    def look() -> Finding:
        daemonsets = view.all("apps/v1", "DaemonSet")
        return devices.plugin(device, daemonsets, view.all("v1", "Node"))

    return look


def _drivers(view: View) -> tuple[Check, ...]:
    def drivers() -> list[Object]:
        return view.all("storage.k8s.io/v1", "CSIDriver")

    return (
        Check(
            "FSx driver",
            lambda: addons.driver(
                "fsx.csi.aws.com", "mounts of kind fsx", "aws-fsx-csi-driver", drivers()
            ),
            unanswered="warn",
        ),
        Check(
            "S3 driver",
            lambda: addons.driver(
                "s3.csi.aws.com", "mounts of kind s3", "aws-mountpoint-s3-csi-driver", drivers()
            ),
            unanswered="warn",
        ),
    )


def _node_groups(eks_cluster: str) -> Finding:
    """The managed node groups, and what AWS says of their health."""
    from eksml.backends.eks import node_groups

    groups = node_groups(eks_cluster)
    if ill := [group for group in groups if group.ill]:
        told = "; ".join(f"{group.name}: {group.ill}" for group in ill)
        return Finding("warn", told, f"aws eks describe-nodegroup --cluster-name {eks_cluster} …")
    told = ", ".join(
        f"{group.name} ({', '.join(group.instances or ('?',))}, at most {group.most})"
        for group in groups
    )
    return Finding("ok", told or "none; nodes come from Karpenter or EKS Auto Mode only")
