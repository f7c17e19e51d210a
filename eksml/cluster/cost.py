"""What an hour of a cluster costs: at its least, as it starts and at its largest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eksml.cluster.fit import Fit, GroupFit, Scale
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.placement import Market
from eksml.cluster.price import Price, hourly_usd


@dataclass(frozen=True)
class GroupCost:
    """One group, or the head."""

    group: str
    each: Price
    """An hour of one machine of the type that is counted on."""
    usd: Scale[float]
    """An hour of all of its machines."""


@dataclass(frozen=True)
class Cost:
    """US dollars per hour, of EC2 instances alone.

    Not in it: EKS's own fee, volumes, file systems, traffic between zones and out.
    """

    groups: tuple[GroupCost, ...]
    usd: Scale[float]
    """As the specification buys."""
    on_demand: Scale[float]
    """If everything were bought on demand."""
    spot: Scale[float]
    """If all workers were bought on spot; the head stays on demand."""
    as_of: str
    """The day of the oldest price in it."""
    estimated: bool
    """Whether a price in it is not AWS's own for that type, market and region."""


def cost(fit: Fit, region: str) -> Cost:
    """The cost per hour of everything in ``fit``.

    A group with several instance types counts with the one that makes it dearest: a bound.
    """
    running = [group for group in fit.groups if group.fits]
    groups = tuple(_group_cost(group, group.market, region) for group in running)
    on_demand = [_group_cost(group, "on-demand", region) for group in running]
    spot = [_group_cost(group, _cheapest(group), region) for group in running]
    return Cost(
        groups,
        usd=_total(groups),
        on_demand=_total(on_demand),
        spot=_total(spot),
        as_of=min((group.each.as_of for group in groups), default=""),
        estimated=any(group.each.estimated for group in (*groups, *spot)),
    )


def _group_cost(group: GroupFit, market: Market, region: str) -> GroupCost:
    each = hourly_usd(group.instance, market, region)
    machines = group.machines
    usd = Scale(*(number * each.usd for number in (machines.min, machines.start, machines.max)))
    return GroupCost(group.group, each, usd)


def _cheapest(group: GroupFit) -> Market:
    return group.market if group.group == HEAD_GROUP else "spot"


def _total(groups: Iterable[GroupCost]) -> Scale[float]:
    every = [group.usd for group in groups]
    return Scale(
        sum(usd.min for usd in every),
        sum(usd.start for usd in every),
        sum(usd.max for usd in every),
    )
