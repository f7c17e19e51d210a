"""Where the pods of a group may lie, in the scheduler's words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eksml.cluster.catalogue import instances
from eksml.cluster.placement import (
    EKS_CAPACITY,
    EKS_NODEGROUP,
    INSTANCE_TYPE,
    KARPENTER_CAPACITY,
    KARPENTER_NODEPOOL,
    ZONE,
    Market,
    Toleration,
)
from eksml.cluster.render.names import node_pool, pod_labels
from eksml.cluster.vocabulary import ACCELERATOR_TAINTS

if TYPE_CHECKING:
    from eksml.cluster.catalogue import Instance
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.spec import Cluster

ARCH = "kubernetes.io/arch"
HOST = "kubernetes.io/hostname"

_MARKETS: dict[Market, tuple[tuple[tuple[str, str, tuple[str, ...]], ...], ...]] = {
    "on-demand": (
        (
            (KARPENTER_CAPACITY, "NotIn", ("spot", "reserved")),
            (EKS_CAPACITY, "NotIn", ("SPOT", "CAPACITY_BLOCK")),
        ),
    ),
    "spot": (
        ((KARPENTER_CAPACITY, "In", ("spot",)),),
        ((EKS_CAPACITY, "In", ("SPOT",)),),
    ),
    "reserved": (
        ((KARPENTER_CAPACITY, "In", ("reserved",)),),
        # A node group on a reservation that is no block is on demand by its label
        ((EKS_CAPACITY, "In", ("CAPACITY_BLOCK", "ON_DEMAND")),),
    ),
}
"""The ways in which a node can be of a market; of one way, every expression must hold. Karpenter
and managed node groups label differently; nodes that neither made are taken as on demand."""


def node_selector(
    spec: Cluster,
    group: str,
    types: tuple[str, ...],
    arch: str,
    zones: tuple[str, ...] = (),
    said: dict[str, str] | None = None,
) -> dict[str, str]:
    """Labels that a node must have: what was said, its one type and zone, its group's node pool.

    Where no type tells the processor, the image does.
    """
    said = said or {}
    selector = dict(said)
    if not types:
        selector[ARCH] = arch
    if len(types) == 1:
        selector[INSTANCE_TYPE] = types[0]
    if len(zones) == 1:
        selector[ZONE] = zones[0]
    if spec.karpenter and not {KARPENTER_NODEPOOL, EKS_NODEGROUP} & said.keys():
        selector[KARPENTER_NODEPOOL] = node_pool(spec, group)
    return dict(sorted(selector.items()))


def node_affinity(
    market: Market, types: tuple[str, ...], zones: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The market, and one of several instance types and zones."""
    several = [
        (key, "In", values)
        for key, values in ((INSTANCE_TYPE, types), (ZONE, zones))
        if len(values) > 1
    ]
    terms = [
        {
            "matchExpressions": [
                {"key": key, "operator": operator, "values": list(values)}
                for key, operator, values in (*several, *way)
            ]
        }
        for way in _MARKETS[market]
    ]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def group_affinity(spec: Cluster, group: WorkerGroup) -> dict[str, Any]:
    """The whole ``affinity`` of a group's pods."""
    affinity: dict[str, Any] = {
        "nodeAffinity": node_affinity(group.market, group.instances, group.zones)
    }
    if group.efa and len(group.zones) != 1:
        # EFA does not cross zones: the first pod chooses, the others follow
        affinity["podAffinity"] = {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"labelSelector": _same_group(spec, group), "topologyKey": ZONE}
            ]
        }
    return affinity


def spread(spec: Cluster, group: WorkerGroup) -> list[dict[str, Any]]:
    """Topology spread constraints; empty unless the group asks for them.

    Over hosts strictly, since a host can always be added. Over zones as far as there is capacity:
    a zone without any must not keep the group from growing in the others.
    """
    if group.spread is None:
        return []
    by_host = group.spread == "host"
    constraint = {
        "maxSkew": 1,
        "topologyKey": HOST if by_host else ZONE,
        "whenUnsatisfiable": "DoNotSchedule" if by_host else "ScheduleAnyway",
        "labelSelector": _same_group(spec, group),
    }
    return [constraint]


def accelerator_taints(machines: Sequence[Instance]) -> list[str]:
    """Keys of the taints of such machines. Device plugins tolerate them everywhere, so that only
    pods with a device come."""
    there = (any(one.gpu for one in machines), any(one.neuron for one in machines))
    return [key for key, has in zip(ACCELERATOR_TAINTS, there, strict=True) if has]


def tolerations(types: tuple[str, ...], said: Iterable[Toleration]) -> list[dict[str, Any]]:
    """Those of nodes with such devices, asked for or not, then what was said; none twice."""
    taints = accelerator_taints([instances()[name] for name in types])
    own = [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]
    every = [*own, *(_toleration(toleration) for toleration in said)]
    return [one for index, one in enumerate(every) if one not in every[:index]]


def _toleration(said: Toleration) -> dict[str, Any]:
    made: dict[str, Any] = {"key": said.key}
    if said.value is None:
        made["operator"] = "Exists"
    else:
        made |= {"operator": "Equal", "value": said.value}
    if said.effect:
        made["effect"] = said.effect
    if said.seconds is not None:
        made["tolerationSeconds"] = said.seconds
    return made


def _same_group(spec: Cluster, group: WorkerGroup) -> dict[str, Any]:
    # The operator sets ray.io/group; ray.io/cluster differs between a RayService's two clusters
    return {"matchLabels": pod_labels(spec) | {"ray.io/group": group.name}}
