"""Everything around a cluster's manifest, in the order in which it is applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.access import access
from eksml.cluster.render.karpenter import karpenter
from eksml.cluster.render.limits import budgets, quota
from eksml.cluster.render.monitoring import monitoring
from eksml.cluster.render.network import network
from eksml.cluster.render.queue import queue
from eksml.cluster.render.storage import storage

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster


def surroundings(spec: Cluster) -> list[dict[str, Any]]:
    """The objects that a cluster needs around it, as plain dicts without nulls.

    Apply them in this order, before the RayCluster: what a pod refers to (identity, volumes) and
    what must hold from its first second (quota, policy) comes before anything that starts pods.
    Equal specifications give equal lists. Every object carries
    ``app.kubernetes.io/managed-by: eksml`` and ``app.kubernetes.io/instance: <cluster>``.
    """
    return [
        *quota(spec),
        *access(spec),
        *network(spec),
        *queue(spec),
        *storage(spec),
        *karpenter(spec),
        *budgets(spec),
        *monitoring(spec),
    ]
