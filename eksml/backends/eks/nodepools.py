"""Karpenter's NodePools: those of a cluster, and what one of them offers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eksml.backends.eks.aws import client, translated
from eksml.backends.eks.source import ARCH, NodeSource, Requirement, Taint, Values
from eksml.backends.why.reason import at, condition, name_of
from eksml.cluster.placement import INSTANCE_TYPE, KARPENTER_CAPACITY, KARPENTER_NODEPOOL, ZONE
from eksml.cluster.rules.quantity import amount

_FREE = (ZONE, KARPENTER_CAPACITY, ARCH)
"""Labels that every node has, and that the pod chooses where the pool does not."""


def node_pools(cluster: str, region: str | None = None) -> list[NodeSource]:
    """The NodePools of the EKS cluster named ``cluster``, if the kubeconfig leads there.

    AWS does not know them. Empty where the kubeconfig leads elsewhere, or Karpenter is not there.

    Raises:
        ClusterNotUp: there is no such EKS cluster.
        ClusterError: AWS or Kubernetes refuses, or does not answer.
    """
    from eksml.backends.kube import config
    from eksml.backends.kube.client import KubeClient
    from eksml.backends.kube.refusals import NotServed

    if not config.is_configured():
        return []
    eks = client("eks", region)
    with translated(f"EKS cluster {cluster}"):
        endpoint = eks.describe_cluster(name=cluster)["cluster"].get("endpoint")
    kube = KubeClient.connect()
    if not endpoint or kube.host.rstrip("/").lower() != endpoint.rstrip("/").lower():
        return []
    try:
        found = kube.list("karpenter.sh/v1", "NodePool").items
    except NotServed:
        return []
    return [from_node_pool(pool) for pool in found]


def from_node_pool(pool: Mapping[str, Any]) -> NodeSource:
    """A ``karpenter.sh/v1`` NodePool. Pure."""
    template = at(pool, "spec", "template") or {}
    requirements = tuple(
        Requirement(one["key"], one["operator"], tuple(map(str, one.get("values") or ())))
        for one in at(template, "spec", "requirements") or ()
    )
    labels: dict[str, Values] = dict.fromkeys(_FREE)
    labels |= {
        key: frozenset((str(value),))
        for key, value in (at(template, "metadata", "labels") or {}).items()
    }
    for requirement in requirements:
        chosen = frozenset(requirement.values) if requirement.operator == "In" else None
        labels[requirement.key] = chosen
    labels[KARPENTER_NODEPOOL] = frozenset((name_of(pool),))
    types = labels.pop(INSTANCE_TYPE, None)
    limits = {
        key: float(value)
        for key, limit in (at(pool, "spec", "limits") or {}).items()
        if (value := amount(limit)) is not None
    }
    ready = condition(pool, "Ready")
    return NodeSource(
        name_of(pool),
        "NodePool",
        tuple(sorted(types)) if types else None,
        labels,
        tuple(
            Taint(one["key"], one.get("value") or "", one["effect"])
            for one in at(template, "spec", "taints") or ()
        ),
        requirements,
        most=int(limits["nodes"]) if "nodes" in limits else None,
        limits=limits,
        ill=str(ready.get("message") or "") if ready.get("status") == "False" else "",
    )
