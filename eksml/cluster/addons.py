"""What must be installed in the EKS cluster, so that objects of a kind mean something there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eksml.cluster.fit import Fit
from eksml.cluster.mounts import FsxMount, S3Mount
from eksml.cluster.spec import Cluster
from eksml.cluster.vocabulary import EFA, GPU, NEURON_CORES, NEURON_DEVICES

_QUEUES = {"kueue": "Kueue", "volcano": "Volcano", "yunikorn": "YuniKorn"}


def addons(spec: Cluster, objects: tuple[Mapping[str, Any], ...], fit: Fit) -> tuple[str, ...]:
    """Operators, device plugins and drivers that ``objects`` rely on, by their usual names."""
    needed = [f"KubeRay {spec.operator.version}", *_devices(fit), *_drivers(spec)]
    if spec.identity.pod_identity and not spec.identity.role_arn:
        needed.append("EKS Pod Identity agent")
    kinds = {item["kind"] for item in objects}
    if "NodePool" in kinds:
        needed.append("Karpenter")
    if "PodMonitor" in kinds:
        needed.append("Prometheus operator")
    if "NetworkPolicy" in kinds:
        needed.append("network policies in the VPC CNI")
    if spec.queue:
        needed.append(_QUEUES[spec.queue.kind])
    return tuple(needed)


def _devices(fit: Fit) -> Iterator[str]:
    asked = {name for group in fit.groups for name in group.pod}
    if GPU in asked:
        yield "NVIDIA device plugin"
    if {NEURON_DEVICES, NEURON_CORES} & asked:
        yield "Neuron device plugin"
    if EFA in asked:
        yield "EFA device plugin"


def _drivers(spec: Cluster) -> Iterator[str]:
    groups = (mount for group in spec.groups for mount in group.mounts)
    mounts = [*spec.mounts, *spec.head.mounts, *groups]
    if any(isinstance(mount, S3Mount) for mount in mounts):
        yield "Mountpoint for S3 CSI driver"
    if any(isinstance(mount, FsxMount) for mount in mounts):
        yield "FSx for Lustre CSI driver"
    if spec.state and spec.state.store == "rocksdb" and not spec.state.claim:
        yield "EBS CSI driver"
