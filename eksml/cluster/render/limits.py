"""What the namespace may use, and what may not be taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.render.names import namespaced, part, pod_labels

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

_SMALL = {"cpu": "250m", "memory": "512Mi"}
"""For containers that ask for nothing, such as the operator's init and submitter containers."""


def quota(spec: Cluster) -> list[dict[str, Any]]:
    """The ResourceQuota of the namespace, and the LimitRange without which it refuses pods.

    Under a quota on CPU or memory, a container that does not state that resource is not admitted:
    the LimitRange states a little for it. It states limits only where the quota counts limits, as
    a limit given to a container that asks for more would break it.
    """
    if spec.quota is None:
        return []
    hard = dict(sorted(spec.quota.limits.items()))
    objects: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": namespaced(spec, spec.name),
            "spec": {"hard": hard},
        }
    ]
    requests = {name: _SMALL[name] for name in _SMALL if {name, f"requests.{name}"} & set(hard)}
    limits = {name: _SMALL[name] for name in _SMALL if f"limits.{name}" in hard}
    if not requests and not limits:
        return objects
    item: dict[str, Any] = {"type": "Container"}
    if limits:
        item["default"] = limits
    if requests:
        item["defaultRequest"] = requests
    return [
        *objects,
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": namespaced(spec, spec.name),
            "spec": {"limits": [item]},
        },
    ]


def budgets(spec: Cluster) -> list[dict[str, Any]]:
    """PodDisruptionBudgets: no eviction of the head, nor of workers of protected groups.

    Not of workers on spot. Eviction is how a reclaim's notice reaches a pod; a budget would hold
    it up until the instance is gone, and turn two minutes' notice into a kill.

    A rolling update of nodes waits for these pods; the autoscaler and the operator delete pods
    without asking for eviction and are not held up.
    """
    protected = [
        _budget(spec, group.nodes[1], group.name)
        for group in spec.groups
        if protects(spec, group.protected) and group.market != "spot" and group.nodes[1]
    ]
    head = [_budget(spec, 1, HEAD_GROUP)] if spec.protected else []
    return head + protected


def protects(spec: Cluster, own: bool | None) -> bool:
    """Whether a group is protected: its own word counts, else the cluster's."""
    return spec.protected if own is None else own


def _budget(spec: Cluster, at_least: int, group: str) -> dict[str, Any]:
    # minAvailable as a whole number is all that Kubernetes takes for pods whose owner has no
    # scale subresource; the group's maximum therefore says «none may go».
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": namespaced(spec, part(spec, group)),
        "spec": {
            "minAvailable": at_least,
            "selector": {"matchLabels": pod_labels(spec) | {"ray.io/group": group}},
        },
    }
