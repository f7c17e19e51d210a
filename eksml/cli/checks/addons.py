"""Checks of what stands beside the operator: drivers, Karpenter, Kueue, identity, monitoring."""

from __future__ import annotations

from collections.abc import Iterable

from eksml.backends.why.reason import Object, condition, name_of, words
from eksml.cli.checks.finding import Finding
from eksml.cli.checks.workload import missing_pods, older, place_of, runs, version_of

KUEUE_FLOOR = "0.16"
"""The first that lets Ray's own autoscaler work inside a queue."""


def driver(name: str, use: str, addon: str, drivers: Iterable[Object]) -> Finding:
    """A CSI driver by its name."""
    if any(name_of(one) == name for one in drivers):
        return Finding("ok", name)
    install = f"aws eks create-addon --cluster-name … --addon-name {addon}"
    return Finding("warn", f"{name} is not installed; {use} need it", install)


def karpenter(served: bool, deployments: list[Object], pools: list[Object]) -> Finding:
    """Karpenter and whether its NodePools are ready."""
    if not served:
        told = "not installed (no karpenter.sh/v1); nodes come from node groups only"
        return Finding("warn", told, "See karpenter.sh/docs/getting-started.")
    found = runs(deployments, "karpenter")
    version = found and version_of(found)
    ill = [pool for pool in pools if condition(pool, "Ready").get("status") == "False"]
    if ill:
        ready = condition(ill[0], "Ready")
        why = words(ready.get("message") or ready.get("reason"))
        names = ", ".join(map(name_of, ill))
        return Finding(
            "warn", f"NodePools are not ready: {names} ({why})", "kubectl describe nodepool"
        )
    if found is not None and missing_pods(found):
        return Finding("warn", f"{place_of(found)} is not ready", "kubectl get pods -A | grep karp")
    # EKS Auto Mode runs it where nobody sees it
    who = f"{version or 'of an unknown version'} ({place_of(found)})" if found else "run by EKS"
    return Finding("ok", f"{who}, {len(pools)} NodePools")


def kueue(served: bool, deployments: list[Object]) -> Finding:
    """Kueue, and whether it is new enough for Ray's autoscaler."""
    if not served:
        told = "not installed; `queue:` of kind kueue needs it"
        return Finding("warn", told, "See kueue.sigs.k8s.io/docs/installation.")
    found = runs(deployments, "kueue-controller-manager", "kueue/kueue")
    if found is None:
        return Finding("warn", "its CRDs are there, its controller is not", "Install it again.")
    version = version_of(found)
    if missing_pods(found):
        return Finding(
            "warn", f"{place_of(found)} is not ready", "kubectl get pods -n kueue-system"
        )
    if version and older(version, KUEUE_FLOOR):
        told = f"{version} is older than {KUEUE_FLOOR}: queued clusters cannot be autoscaled"
        return Finding("warn", told, "Upgrade Kueue.")
    return Finding("ok", f"{version or 'of an unknown version'} ({place_of(found)})")


def pod_identity(daemonsets: list[Object]) -> Finding:
    """The agent that gives pods their role."""
    found = runs(daemonsets, "eks-pod-identity-agent")
    install = "aws eks create-addon --cluster-name … --addon-name eks-pod-identity-agent"
    if found is None:
        told = "no agent runs; roles come by IRSA only (identity.role_arn)"
        return Finding("warn", told, install)
    if missing := missing_pods(found):
        told = f"the agent lacks on {missing} nodes"
        return Finding(
            "warn", told, "kubectl describe daemonset -n kube-system eks-pod-identity-agent"
        )
    return Finding("ok", version_of(found) or "the agent runs")


def pod_monitor(served: bool) -> Finding:
    """The kind under which Ray's metrics are scraped."""
    if served:
        return Finding("ok", "monitoring.coreos.com/v1")
    return Finding(
        "warn",
        "no PodMonitor (monitoring.coreos.com/v1); Ray's metrics are not scraped",
        "Install the Prometheus operator, or say monitoring: false in the YAML.",
    )
