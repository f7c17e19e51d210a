"""Contradictions inside one node or worker group, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from eksml.cluster.placement import EKS_NODEGROUP, KARPENTER_NODEPOOL
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.mounts import Mount

_HEADS = ("headgroup", "head")


def problems(group: WorkerGroup) -> Iterator[Problem]:
    """All of them; paths are relative to the group."""
    yield from _counts(group)
    yield from _shares(group)
    yield from _places(group)
    yield from _memory(group)


def mount_problems(mounts: Sequence[Mount]) -> Iterator[Problem]:
    """Those of storage on one node."""
    seen: dict[str, int] = {}
    for index, mount in enumerate(mounts):
        if mount.path in seen:
            told = f"{mount.path!r} is the path of mounts.{seen[mount.path]} as well."
            yield Problem(f"mounts.{index}.path", told, "Choose another.")
        seen.setdefault(mount.path, index)


def _counts(group: WorkerGroup) -> Iterator[Problem]:
    if group.name in _HEADS:
        yield Problem("name", f"the name {group.name!r} is the head's.", "Choose another.")
    least, most = group.nodes
    if group.replicas is not None and not least <= group.replicas <= most:
        yield Problem("replicas", f"replicas {group.replicas} is not within nodes {group.nodes}.")
    if uneven := sorted({n for n in (*group.nodes, group.initial_nodes) if n % group.hosts}):
        told = f"{group.hosts} hosts come and go together, which {_listed(uneven)} nodes cannot."
        yield Problem("hosts", told, "Make nodes and replicas multiples of hosts.")


def _shares(group: WorkerGroup) -> Iterator[Problem]:
    whole = "only an instance can be cut into shares."
    if group.pods_per_node > 1 and not group.instance:
        yield Problem("pods_per_node", f"{group.pods_per_node}: {whole}", "Name the instance.")
    if group.pods_per_node > 1 and group.hosts > 1:
        told = f"{group.hosts} hosts are whole machines, not shares of one."
        yield Problem("hosts", told, "Leave out hosts or pods_per_node.")
    if group.pods_per_node > 1 and group.spread == "host":
        told = f"each node on its own host contradicts pods_per_node {group.pods_per_node}."
        yield Problem("spread", told, "Leave out one of the two.")
    for field in ("efa", "scratch"):
        if getattr(group, field) and not group.instance:
            yield Problem(field, "is a property of an instance, and none is named.", _NAME_IT)


def _places(group: WorkerGroup) -> Iterator[Problem]:
    if len(set(group.zones)) < len(group.zones):
        yield Problem("zones", "a zone is there twice.", "Leave one out.")
    if group.efa and len(group.zones) > 1:
        told = f"EFA works within one zone, not across {_listed(group.zones)}."
        yield Problem("zones", told, "Choose one, or leave it to the scheduler.")
    if group.spread == "zone" and (group.efa or len(group.zones) == 1):
        why = "EFA works within one zone." if group.efa else f"zones names only {group.zones[0]}."
        yield Problem("spread", f"over zones is not possible: {why}", "Leave out one of the two.")
    if group.capacity_reservation and group.market != "reserved":
        told = f"{group.capacity_reservation} is not used with market: {group.market}."
        yield Problem("capacity_reservation", told, "Say market: reserved.")
    if group.capacity_reservation and len(group.instances) != 1:
        told = f"a reservation is for one instance type, not for {len(group.instances)}."
        yield Problem("instance", told, f"Name that of {group.capacity_reservation}.")
    if {KARPENTER_NODEPOOL, EKS_NODEGROUP} <= group.node_selector.keys():
        told = f"no node has both {KARPENTER_NODEPOOL} and {EKS_NODEGROUP}."
        yield Problem("node_selector", told, "Choose one.")


def _memory(group: WorkerGroup) -> Iterator[Problem]:
    if group.shm and group.object_store_memory and group.object_store_memory > group.shm:
        told = f"{group.object_store_memory} bytes do not fit into shm, {group.shm} bytes."
        yield Problem("object_store_memory", told, "Raise shm, or leave it out.")


_NAME_IT = "Name the instance, or leave it out."


def _listed(items: Iterable[object]) -> str:
    return " and ".join(str(item) for item in items)
