"""Can this workload ever be placed there? Answered from numbers alone, before anything is paid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eksml.cluster.selector import matches
from eksml.cluster.spec import Cluster
from eksml.errors import DoesNotFit, InvalidSpec, Problem

Resources = Mapping[str, float]

_UNSAID = {"memory": math.inf, "object_store_memory": math.inf}
"""What the machine decides where the specification does not: never a reason to refuse."""

_ROUNDING = 1e-6
"""Ray counts in ten-thousandths; sums of floats must not lose a whole worker."""


_ENDLESS = 1_000_000_000
"""Stands for «as often as you like» where a bundle is empty or a resource unlimited."""


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
    """The nodes of a specification with every group at its max, or those of ``ray.nodes()``."""
    if isinstance(where, Cluster):
        head = Offer(_UNSAID | where.head.offers(), where.head.node_labels(), "head")
        groups = (
            Offer(_UNSAID | group.offers(), group.node_labels(), group.name, group.nodes[1])
            for group in where.groups
        )
        return (head, *groups)
    given = (node if isinstance(node, Offer) else _offer(node) for node in where)
    return tuple(offer for offer in given if offer is not None)


def preflight(demand: Demand, where: Cluster | Iterable[Offer | Mapping[str, Any]]) -> Placement:
    """Where ``demand`` fits on ``where``, all other work aside.

    Exact for equal bundles. Different bundles are placed largest first, first fit: a demand that
    fits only by a cleverer packing is refused.

    Raises:
        DoesNotFit: it can never be placed; says how many fit, what is short and what to do.
    """
    offers = offers_of(where)
    eligible = tuple(offer for offer in offers if matches(demand.label_selector, offer.labels))
    if demand.bundles and not any(offer.count for offer in eligible):
        raise DoesNotFit(_no_node(demand, offers))
    wanted = Counter(tuple(sorted(bundle.items())) for bundle in demand.bundles)
    rooms = [_Room(offer) for offer in eligible]
    placed: Counter[str] = Counter()
    for bundle, count in sorted(wanted.items(), key=lambda item: _size(item[0], eligible)):
        left = count
        for room in rooms:
            taken = room.take(dict(bundle), left)
            placed[room.offer.group] += taken
            left -= taken
        if left:
            raise DoesNotFit(_too_many(demand, dict(bundle), count, count - left, eligible))
    return Placement({group: number for group, number in placed.items() if number})


class _Room:
    """What is still free on equal nodes: full ones untouched, opened ones one by one."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self._opened: list[tuple[dict[str, float], int]] = [(dict(offer.resources), offer.count)]

    def take(self, bundle: Resources, wanted: int) -> int:
        """Place up to ``wanted`` equal bundles; how many were placed."""
        taken = 0
        after: list[tuple[dict[str, float], int]] = []
        for free, nodes in self._opened:
            per_node = _times(bundle, free)
            rest = wanted - taken
            full = min(nodes, rest // per_node) if per_node else 0
            part = min(rest - full * per_node, per_node) if full < nodes else 0
            taken += full * per_node + part
            after.append((_minus(free, bundle, per_node), full))
            after.append((_minus(free, bundle, part), 1 if part else 0))
            after.append((free, nodes - full - (1 if part else 0)))
        self._opened = [(free, nodes) for free, nodes in after if nodes]
        return taken


def _times(bundle: Resources, free: Resources) -> int:
    """How often ``bundle`` goes into ``free``."""
    times = min((free.get(name, 0.0) / amount for name, amount in bundle.items()), default=math.inf)
    return int(times + _ROUNDING) if times < _ENDLESS else _ENDLESS


def _minus(free: Resources, bundle: Resources, times: int) -> dict[str, float]:
    return {name: amount - times * bundle.get(name, 0.0) for name, amount in free.items()}


def _size(bundle: tuple[tuple[str, float], ...], offers: Iterable[Offer]) -> float:
    """Negative share of the largest node, so that the largest bundle sorts first."""
    most = _most(offers)
    return -max((amount / most[name] for name, amount in bundle if most.get(name)), default=0.0)


def _most(offers: Iterable[Offer]) -> dict[str, float]:
    most: dict[str, float] = {}
    for offer in offers:
        for name, amount in offer.resources.items():
            most[name] = max(most.get(name, 0.0), amount)
    return most


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


def _too_many(
    demand: Demand, bundle: Resources, wanted: int, fit: int, offers: tuple[Offer, ...]
) -> str:
    asked = f"{wanted} {demand.what} with {_amounts(bundle)} each"
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
    if fit == 0:
        return (
            f"{asked}: none fits, since no single node has all of it. Add a group whose nodes do."
        )
    short = min(
        bundle,
        key=lambda name: sum(
            _times({name: bundle[name]}, offer.resources) * offer.count for offer in offers
        ),
    )
    there = sum(offer.resources.get(short, 0.0) * offer.count for offer in offers)
    growing = next(
        (
            offer.group
            for offer in offers
            if offer.group not in ("", "head") and _times(bundle, offer.resources)
        ),
        None,
    )
    remedy = f"raise nodes of group {growing!r}" if growing else "add a group"
    return (
        f"{asked}: {fit} fit, short of {short} "
        f"({wanted * bundle[short]:g} asked, {there:g} there). "
        f"Ask for at most {fit}, or {remedy}."
    )


def _amounts(bundle: Resources) -> str:
    return ", ".join(f"{name} {amount:g}" for name, amount in sorted(bundle.items()))
