"""Can this workload ever be placed there? Answered from numbers alone, before anything is paid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eksml.cluster.groups import WorkerGroup
from eksml.cluster.head import Head
from eksml.cluster.packing import Resources, Slots, times
from eksml.cluster.selector import matches
from eksml.cluster.sizing import pod_size
from eksml.cluster.spec import Cluster
from eksml.cluster.table import counted
from eksml.errors import DoesNotFit, InvalidSpec, Problem

_UNSAID = {"memory": math.inf, "object_store_memory": math.inf}
"""What the machine decides where the specification does not: never a reason to refuse."""

_PLAIN = ("CPU", "memory", "object_store_memory")
"""What every node has; nodes with more are kept for those who need it."""


@dataclass(frozen=True)
class Demand:
    """What a workload wants: one bundle of resources for each of its workers."""

    bundles: tuple[Resources, ...]
    """One per worker, in Ray's names: ``{"CPU": 1, "GPU": 1}``. Each must lie on one node."""
    label_selector: Mapping[str, str] = field(default_factory=dict)
    """Labels that a node must have, in Ray's syntax: ``spot``, ``!spot``, ``in(a,b)``."""
    what: str = "workers"
    """What the bundles are, for messages."""

    def __post_init__(self) -> None:
        problems = [
            Problem(f"bundles.{index}.{name}", f"{amount!r} is not a positive number.")
            for index, bundle in enumerate(self.bundles)
            for name, amount in bundle.items()
            if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount > 0
        ]
        if problems:
            raise InvalidSpec(problems, subject="the demand")


@dataclass(frozen=True)
class Offer:
    """Equal nodes, as preflight sees them."""

    resources: Resources
    labels: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    """The group's name, for messages."""
    count: int = 1
    """How many such nodes there can be at most."""


@dataclass(frozen=True)
class Placement:
    """One way to place a demand: proof that it fits, not a promise where Ray will put it."""

    workers: Mapping[str, int]
    """Group to number of workers there."""


def offers_of(where: Cluster | Iterable[Offer | Mapping[str, Any]]) -> tuple[Offer, ...]:
    """The nodes of a specification with every group at its max, or those of ``ray.nodes()``.

    On EKS a node offers what its pod has of the instance, locally what the specification says.
    """
    if isinstance(where, Cluster):
        size = _size_on_eks if where.backend == "eks" else _size_here
        head = Offer(size(where.head), where.head.node_labels(), "head")
        groups = (
            Offer(size(group), group.node_labels(), group.name, group.nodes[1])
            for group in where.groups
        )
        return (head, *groups)
    given = (node if isinstance(node, Offer) else _offer(node) for node in where)
    return tuple(offer for offer in given if offer is not None)


def preflight(
    demand: Demand | Sequence[Demand], where: Cluster | Iterable[Offer | Mapping[str, Any]]
) -> Placement:
    """Where ``demand`` fits on ``where``, all other work aside.

    Several demands have to fit at the same time, as the stages of a dataset or the deployments of
    an application do. Exact for equal bundles. Different bundles are placed one kind after the
    other, those first that the fewest nodes can hold, then the largest; each on the plainest node
    that has room (a CPU-only bundle goes to a GPU node last). A demand that fits only by a
    cleverer packing is refused.

    Raises:
        DoesNotFit: it can never be placed; says how many fit, what is short and what to do.
    """
    offers = offers_of(where)
    demands = (demand,) if isinstance(demand, Demand) else tuple(demand)
    kinds = _kinds(demands, offers)
    slots = _slots(kinds, offers)
    placed: Counter[str] = Counter()
    for kind in kinds:
        taken = slots.place(kind.bundle | kind.marker, kind.count)
        for index, count in taken.items():
            placed[offers[index].group] += count
        if (fit := sum(taken.values())) < kind.count:
            beside = sum(len(one.bundles) for one in demands) - kind.count
            raise DoesNotFit(_too_many(kind, fit, beside, _eligible(kind.demand, offers)))
    return Placement({group: number for group, number in placed.items() if number})


@dataclass(frozen=True)
class _Kind:
    """Equal bundles of one demand."""

    demand: Demand
    bundle: dict[str, float]
    count: int

    @property
    def marker(self) -> dict[str, float]:
        """A made-up resource of which every node with the right labels has plenty."""
        return {_marker(self.demand): 1.0} if self.demand.label_selector else {}


def _marker(demand: Demand) -> str:
    return f"labels {sorted(demand.label_selector.items())}"


def _kinds(demands: Iterable[Demand], offers: tuple[Offer, ...]) -> list[_Kind]:
    """All equal bundles together, in the order in which they are placed."""
    ordered: list[tuple[tuple[float, float], _Kind]] = []
    for demand in demands:
        eligible = _eligible(demand, offers)
        if demand.bundles and not any(offer.count for offer in eligible):
            raise DoesNotFit(_no_node(demand, offers))
        most, nodes = _most(eligible), _nodes_with(eligible)
        counts = Counter(tuple(sorted(bundle.items())) for bundle in demand.bundles)
        for bundle, count in counts.items():
            can_hold = min((nodes[name] for name, _ in bundle), default=0)
            share = max((amount / (most.get(name) or 1) for name, amount in bundle), default=0.0)
            ordered.append(((can_hold, -share), _Kind(demand, dict(bundle), count)))
    ordered.sort(key=lambda entry: entry[0])
    return [kind for _, kind in ordered]


def _slots(kinds: list[_Kind], offers: tuple[Offer, ...]) -> Slots:
    """The offers in the order in which they are filled: without accelerators first."""
    names = {name for kind in kinds for name in kind.bundle}
    selectors = {_marker(k.demand): k.demand.label_selector for k in kinds if k.marker}
    slots = Slots([*sorted(names), *selectors])
    for index, offer in sorted(enumerate(offers), key=lambda entry: _special(entry[1])):
        marks = {mark: math.inf for mark, wish in selectors.items() if matches(wish, offer.labels)}
        slots.add(index, {**offer.resources, **marks}, offer.count)
    return slots


def _special(offer: Offer) -> int:
    """How many kinds of resources a node has that not every node has."""
    return sum(bool(amount) for name, amount in offer.resources.items() if name not in _PLAIN)


def _eligible(demand: Demand, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
    return tuple(offer for offer in offers if matches(demand.label_selector, offer.labels))


def _nodes_with(offers: Iterable[Offer]) -> Counter[str]:
    """How many nodes have some of each resource."""
    nodes: Counter[str] = Counter()
    for offer in offers:
        nodes.update({name: offer.count for name, amount in offer.resources.items() if amount})
    return nodes


def _most(offers: Iterable[Offer]) -> dict[str, float]:
    most: dict[str, float] = {}
    for offer in offers:
        for name, amount in offer.resources.items():
            most[name] = max(most.get(name, 0.0), amount)
    return most


def _size_on_eks(node: Head | WorkerGroup) -> Resources:
    return {**pod_size(node).offers(), **node.resources}


def _size_here(node: Head | WorkerGroup) -> Resources:
    return _UNSAID | node.offers()


def _offer(node: Mapping[str, Any]) -> Offer | None:
    """One entry of ``ray.nodes()``; None for a dead one."""
    if not node.get("Alive", True):
        return None
    labels: Mapping[str, str] = node.get("Labels") or {}
    return Offer(node.get("Resources") or {}, labels, labels.get("ray.io/node-group", ""))


def _no_node(demand: Demand, offers: Iterable[Offer]) -> str:
    if not demand.label_selector:
        return (
            f"No node at all for {len(demand.bundles)} {demand.what}. Add a group, or raise nodes."
        )
    seen = sorted(
        {
            f"{k}={v}"
            for offer in offers
            for k, v in offer.labels.items()
            if k in demand.label_selector
        }
    )
    return (
        f"No node has the labels {dict(demand.label_selector)} that the {demand.what} ask for. "
        f"Nodes have {', '.join(seen) or 'none of these labels'}. "
        "Change the selector, or add a group with these labels."
    )


def _too_many(kind: _Kind, fit: int, beside: int, offers: tuple[Offer, ...]) -> str:
    bundle, wanted = kind.bundle, kind.count
    asked = f"{wanted} {kind.demand.what} with {_amounts(bundle)} each"
    most = _most(offers)
    if impossible := [name for name, amount in bundle.items() if most.get(name, 0.0) < amount]:
        larger = ", ".join(
            f"{name} (asked {bundle[name]:g}, the largest node has {most.get(name, 0.0):g})"
            for name in impossible
        )
        return (
            f"{asked}: none fits, since no node has enough {larger}. "
            f"Ask for less per worker, or add a group whose nodes have it."
        )
    alone = sum(times(bundle, offer.resources) * offer.count for offer in offers)
    if alone == 0:
        return (
            f"{asked}: none fits, since no single node has all of it. Add a group whose nodes do."
        )
    short = min(
        bundle,
        key=lambda name: sum(
            times({name: bundle[name]}, offer.resources) * offer.count for offer in offers
        ),
    )
    there = sum(offer.resources.get(short, 0.0) * offer.count for offer in offers)
    others = f" beside {counted(beside, 'other')}" if beside else ""
    less = f"Ask for at most {fit}" if fit else "Ask for less"
    return (
        f"{asked}: {fit or 'none'} fit{others}, short of {short} "
        f"({wanted * bundle[short]:g} asked, {there:g} there). "
        f"{less}, or {_remedy(bundle, offers)}."
    )


def _remedy(bundle: Resources, offers: Iterable[Offer]) -> str:
    growing = next(
        (
            offer.group
            for offer in offers
            if offer.group not in ("", "head") and times(bundle, offer.resources)
        ),
        None,
    )
    return f"raise nodes of group {growing!r}" if growing else "add a group"


def _amounts(bundle: Resources) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(bundle.items()))
