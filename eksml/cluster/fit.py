"""How many machines the pods of each group take, and whether they fit on them at all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from eksml.cluster.allocatable import HUGE_PAGES_BYTES, allocatable
from eksml.cluster.catalogue import Instance, instances
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.placement import Market
from eksml.cluster.price import hourly_usd
from eksml.cluster.ray_objects import cluster_spec_of
from eksml.cluster.requests import AUTOSCALER, requests
from eksml.cluster.spec import Cluster
from eksml.cluster.table import amount_of_memory
from eksml.cluster.vocabulary import EFA, GPU, HUGE_PAGES, NEURON_CORES, NEURON_DEVICES
from eksml.errors import Problem

N = TypeVar("N", int, float)

_ROUNDING = 1e-9
_GENERAL = re.compile(r"[cmr]([6-9]|\d\d)[ai]")
"""Intel and AMD machines as Karpenter's pool for pods without an instance type has them."""


@dataclass(frozen=True)
class Scale(Generic[N]):
    """A number with every group at its min, as the cluster starts, and with every group at max."""

    min: N
    start: N
    max: N


@dataclass(frozen=True)
class InstanceFit:
    """The pods of one group, if all of its machines were of this type."""

    instance: str
    pods_per_machine: int
    """0: the pod does not fit."""
    machines: Scale[int]
    short: Mapping[str, tuple[float, float]]
    """What the pod asks and what the machine has, for each resource of which it has too little."""


@dataclass(frozen=True)
class GroupFit:
    """One group, or the head."""

    group: str
    market: Market
    pods: Scale[int]
    pod: Mapping[str, float]
    """What one pod requests, in Kubernetes' names: CPUs, bytes, devices."""
    on: tuple[InstanceFit, ...]
    """Each instance type that the group may have. The one with which it costs most stands first,
    and is the one that is counted on; those that cannot hold the pod stand last."""
    chosen: bool = False
    """Whether the specification names no type, and the cheapest that holds the pod is taken."""

    @property
    def instance(self) -> str:
        """The type that is counted on; empty if none is large enough."""
        return self.on[0].instance if self.on else ""

    @property
    def fits(self) -> bool:
        """Whether a pod fits on some type."""
        return bool(self.on) and self.on[0].pods_per_machine > 0

    @property
    def machines(self) -> Scale[int]:
        """How many machines, of the type that is counted on; none if the pod does not fit."""
        return self.on[0].machines if self.fits else Scale(0, 0, 0)


@dataclass(frozen=True)
class Fit:
    """The head first, then every group."""

    groups: tuple[GroupFit, ...]
    problems: tuple[Problem, ...]
    """Pods that can never be scheduled."""
    warnings: tuple[Problem, ...]
    """What can be scheduled, but not as it is written."""


def fit(spec: Cluster, manifest: Mapping[str, Any]) -> Fit:
    """Pack the pods of ``manifest`` (a Ray object with a cluster, made from ``spec``) on machines.

    Counted are what a pod really requests (all containers, and what ``pod`` adds) and what is
    allocatable on an instance, not what it nominally has. Each group has machines of its own,
    which is what a NodePool or a node group for each of them means. Pure.
    """
    cluster = cluster_spec_of(manifest) or {}
    groups = (_head(spec, cluster), *_workers(spec, cluster))
    problems, warnings = [], []
    for path, group in zip(_paths(spec), groups, strict=True):
        small = [on for on in group.on if not on.pods_per_machine]
        if not group.fits:
            problems.append(_too_large(path, group))
        elif small:
            names = " and ".join(on.instance for on in small)
            told = f"{names} cannot hold the pod ({_shortage(small[0])}) and will not be used."
            warnings.append(Problem(f"{path}.instance", told, "Leave it out, or ask for less."))
    return Fit(groups, tuple(problems), tuple(warnings))


def machine_fit(instance: Instance, pod: Mapping[str, float], pods: Scale[int]) -> InstanceFit:
    """Pack ``pods`` equal pods on machines of one type."""
    room = capacity(instance, efa=EFA in pod)
    asked = {**pod, "pods": 1.0}
    each = min(
        (int(room.get(name, 0.0) / amount + _ROUNDING) for name, amount in asked.items() if amount),
        default=0,
    )
    short = {
        name: (amount, room.get(name, 0.0))
        for name, amount in asked.items()
        if room.get(name, 0.0) * (1 + _ROUNDING) < amount
    }
    sizes = (pods.min, pods.start, pods.max)
    machines = Scale(*(math.ceil(size / each) if each else 0 for size in sizes))
    return InstanceFit(instance.name, each, machines, short)


def capacity(instance: Instance, *, efa: bool = False) -> dict[str, float]:
    """What all our pods on one machine can request together, by Kubernetes' names.

    With ``efa`` its EFA interfaces are attached, and part of its memory is huge pages.
    """
    free = allocatable(instance, efa=efa)
    neuron = instance.neuron
    return {
        "cpu": free.cpus_milli / 1000,
        "memory": float(free.memory_bytes),
        "ephemeral-storage": float(free.ephemeral_bytes),
        "pods": float(free.pods),
        GPU: float(instance.gpu.count if instance.gpu else 0),
        NEURON_DEVICES: float(neuron.devices if neuron else 0),
        NEURON_CORES: float(neuron.cores if neuron else 0),
        EFA: float(instance.efa if efa else 0),
        HUGE_PAGES: float(HUGE_PAGES_BYTES if instance.efa and efa else 0),
    }


def _head(spec: Cluster, cluster: Mapping[str, Any]) -> GroupFit:
    pod = requests(cluster["headGroupSpec"]["template"])
    if cluster.get("enableInTreeAutoscaling"):
        pod = {name: pod.get(name, 0.0) + AUTOSCALER.get(name, 0.0) for name in pod | AUTOSCALER}
    one = Scale(1, 1, 1)
    return _group_fit(HEAD_GROUP, "on-demand", one, pod, spec.head.instances, spec.region)


def _workers(spec: Cluster, cluster: Mapping[str, Any]) -> Iterator[GroupFit]:
    made = {group["groupName"]: group["template"] for group in cluster.get("workerGroupSpecs", ())}
    for group in spec.groups:
        pods = Scale(group.nodes[0], group.initial_nodes, group.nodes[1])
        pod = requests(made[group.name])
        yield _group_fit(group.name, group.market, pods, pod, group.instances, spec.region)


def _group_fit(
    name: str,
    market: Market,
    pods: Scale[int],
    pod: Mapping[str, float],
    named: tuple[str, ...],
    region: str,
) -> GroupFit:
    known = [instances()[one] for one in named] or _for_anything(pod)
    on = [machine_fit(one, pod, pods) for one in known]

    def cost(one: InstanceFit) -> float:
        each = hourly_usd(one.instance, market, region).usd
        return one.pods_per_machine and each * max(1, one.machines.max)

    if not named:
        on = sorted((one for one in on if one.pods_per_machine), key=cost)[:1]
    ordered = sorted(on, key=lambda one: (-cost(one), one.instance))
    return GroupFit(name, market, pods, pod, tuple(ordered), chosen=not named)


def _for_anything(pod: Mapping[str, float]) -> list[Instance]:
    """The types that a pod without an instance type may land on: current general-purpose ones."""
    if pod.keys() & {GPU, NEURON_DEVICES, NEURON_CORES, EFA}:
        return []
    return [one for one in instances().values() if _GENERAL.fullmatch(one.family)]


def _paths(spec: Cluster) -> Iterator[str]:
    yield "head"
    yield from (f"groups.{index}" for index, _ in enumerate(spec.groups))


def _too_large(path: str, group: GroupFit) -> Problem:
    if not group.on:
        told = "its pod fits on no instance type of the catalogue."
        return Problem(path, told, "Ask for less, or name an instance.")
    told = "; ".join(f"{on.instance} has too little: {_shortage(on)}" for on in group.on)
    remedy = "Ask for less, or name a larger instance."
    return Problem(path, f"a pod of {group.group!r} fits on no machine. {told}.", remedy)


def _shortage(on: InstanceFit) -> str:
    return ", ".join(
        f"{name} {_written(name, asked)} asked, {_written(name, there)} there"
        for name, (asked, there) in on.short.items()
    )


def _written(name: str, amount: float) -> str:
    if name in ("memory", "ephemeral-storage", HUGE_PAGES):
        return amount_of_memory(amount)
    return f"{amount:g}"
