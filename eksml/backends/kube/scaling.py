"""Changing how many nodes a group of a RayCluster has."""

from __future__ import annotations

from typing import Any

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object, Ref
from eksml.cluster import Cluster
from eksml.errors import ClusterNotUp, InvalidSpec, Problem

_TRIES = 5


def scale(
    client: KubeClient, raycluster: Object, spec: Cluster | None, group: str, num_nodes: int
) -> None:
    """Ask for ``num_nodes`` of a group. Other writers, such as the autoscaler, may be at it too:
    the patch holds only for the object that was read, and is made anew for a later one.

    Raises:
        InvalidSpec: no such group, or outside its range.
        ClusterNotUp: the RayCluster is gone.
        ClusterError: the API server refuses, or does not answer.
    """
    ref = Ref.of(raycluster)
    live: Object | None = raycluster
    for tries_left in reversed(range(_TRIES)):
        if live is None:
            raise ClusterNotUp(f"{ref} is gone.")
        operations = _operations(live, spec, group, num_nodes)
        try:
            client.patch(ref, operations)
            return
        except InvalidSpec:  # the test of the patch: somebody changed it meanwhile
            if not tries_left:
                raise
            live = client.get(ref)


def _operations(
    live: Object, spec: Cluster | None, group: str, num_nodes: int
) -> list[dict[str, Any]]:
    groups = live["spec"].get("workerGroupSpecs") or []
    names = [one["groupName"] for one in groups]
    if group not in names:
        told = f"{group!r} is not a group of cluster {live['metadata']['name']!r}."
        remedy = f"Its groups: {', '.join(names) or 'none'}."
        raise InvalidSpec([Problem("group", told, remedy)], subject="the call")
    index = names.index(group)
    replicas = _replicas(groups[index], spec, group, num_nodes)
    path = f"/spec/workerGroupSpecs/{index}"
    version = live["metadata"]["resourceVersion"]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": f"{path}/replicas", "value": replicas},
    ]
    if live["spec"].get("enableInTreeAutoscaling"):
        operations.append({"op": "add", "path": f"{path}/minReplicas", "value": replicas})
    return operations


def _replicas(live_group: Object, spec: Cluster | None, group: str, num_nodes: int) -> int:
    """KubeRay's replicas for a number of nodes: each is as many pods as it has hosts."""
    hosts = int(live_group.get("numOfHosts", 1))
    if spec is None:
        least, most = hosts * live_group["minReplicas"], hosts * live_group["maxReplicas"]
    else:
        least, most = spec.group(group).nodes
    problems = []
    if isinstance(num_nodes, bool) or not least <= num_nodes <= most:
        remedy = f"Group {group!r} may have {least} to {most}; change its nodes."
        problems = [Problem("num_nodes", f"{num_nodes!r} is outside the group's range.", remedy)]
    elif num_nodes % hosts:
        told = f"{num_nodes} is no multiple of the group's {hosts} hosts, which come as one."
        problems = [Problem("num_nodes", told)]
    if problems:
        raise InvalidSpec(problems, subject="the call")
    return num_nodes // hosts
