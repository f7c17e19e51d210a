"""What a cluster did cost, from how long each of its nodes lived."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from eksml.cluster.placement import Market
from eksml.cluster.price import hourly_usd
from eksml.cluster.table import money, table
from eksml.errors import InvalidSpec, Problem

_LEAST_BILLED_S = 60.0
"""EC2 bills Linux by the second, a minute at least."""


@dataclass(frozen=True)
class NodeLifetime:
    """One node, from its start to its end."""

    instance: str
    market: Market
    started_s: float
    """When it started, in seconds since the epoch."""
    ended_s: float | None = None
    """When it ended; None while it lives."""
    busy_s: float | None = None
    """For how long its accelerators (without any: its CPUs) were given out; None: unknown."""
    group: str = ""
    share: float = 1.0
    """Of its machine, where several nodes share one."""


@dataclass(frozen=True)
class UsageLine:
    """All nodes of one instance type and market."""

    instance: str
    market: Market
    nodes: int
    hours: float
    """Node hours."""
    usd: float
    idle_usd: float | None
    """What was paid for nodes that did nothing; None if nobody measured it."""

    @property
    def idle_share(self) -> float | None:
        """Of the money, 0 to 1."""
        return None if self.idle_usd is None else self.idle_usd / self.usd if self.usd else 0.0


@dataclass(frozen=True)
class Receipt:
    """Node hours and money by instance type and market. ``str()`` is a table."""

    lines: tuple[UsageLine, ...]
    as_of: str
    """The date of the oldest price used; empty without lines."""
    estimated: bool
    """Whether some price is an estimate (spot prices are)."""

    @property
    def hours(self) -> float:
        """Node hours altogether."""
        return sum(line.hours for line in self.lines)

    @property
    def usd(self) -> float:
        """What the nodes cost altogether."""
        return sum(line.usd for line in self.lines)

    @property
    def idle_share(self) -> float | None:
        """Share of the money that went to idle nodes; None if it is unknown for some line."""
        idle = [line.idle_usd for line in self.lines if line.idle_usd is not None]
        if not idle or len(idle) < len(self.lines):
            return None
        return sum(idle) / self.usd if self.usd else 0.0

    def __str__(self) -> str:
        rows = [_row(line) for line in self.lines]
        rows.append(("total", "", "", _hours(self.hours), money(self.usd), _share(self.idle_share)))
        about = "about, " if self.estimated else ""
        note = f"EC2 nodes alone, {about}prices of {self.as_of}." if self.lines else "No node ran."
        titles = ("INSTANCE", "MARKET", *_NUMBERS)
        return f"{table(titles, rows, numbers=_NUMBERS)}\n{note}"


_NUMBERS = ("NODES", "HOURS", "COST", "IDLE")


def receipt(nodes: Iterable[NodeLifetime], *, now_s: float, region: str = "us-east-1") -> Receipt:
    """What ``nodes`` cost until ``now_s`` (seconds since the epoch), dearest first.

    A node that lived less than a minute counts as a minute, as EC2 bills it.

    Raises:
        InvalidSpec: a node ends before it starts or was busy for longer than it lived, or an
            instance type is unknown or has no price.
    """
    lives = list(nodes)
    if problems := [found for index, life in enumerate(lives) for found in _wrong(index, life)]:
        raise InvalidSpec(problems, subject="the list of nodes")
    kinds: dict[tuple[str, Market], list[NodeLifetime]] = {}
    for life in lives:
        kinds.setdefault((life.instance, life.market), []).append(life)
    prices = {kind: hourly_usd(*kind, region) for kind in kinds}
    lines = [_line(kind, group, prices[kind].usd, now_s) for kind, group in kinds.items()]
    return Receipt(
        tuple(sorted(lines, key=lambda line: (-line.usd, line.instance, line.market))),
        as_of=min((str(price.as_of) for price in prices.values()), default=""),
        estimated=any(price.estimated for price in prices.values()),
    )


def _wrong(index: int, life: NodeLifetime) -> Iterable[Problem]:
    if life.ended_s is not None and life.ended_s < life.started_s:
        yield Problem(f"nodes.{index}.ended_s", f"{life.ended_s} is before {life.started_s}.")
    if life.busy_s is not None and life.busy_s < 0:
        yield Problem(f"nodes.{index}.busy_s", f"{life.busy_s} is negative.")


def _line(
    kind: tuple[str, Market], nodes: list[NodeLifetime], usd_per_hour: float, now_s: float
) -> UsageLine:
    billed_s = [_billed_s(node, now_s) for node in nodes]
    busy_s = [node.busy_s for node in nodes if node.busy_s is not None]
    idle_s = [max(0.0, paid - busy) for paid, busy in zip(billed_s, busy_s, strict=False)]
    per_second = usd_per_hour / 3600
    return UsageLine(
        *kind,
        nodes=len(nodes),
        hours=sum(billed_s) / 3600,
        usd=sum(billed_s) * per_second,
        idle_usd=sum(idle_s) * per_second if len(busy_s) == len(nodes) else None,
    )


def _billed_s(node: NodeLifetime, now_s: float) -> float:
    ended_s = now_s if node.ended_s is None else node.ended_s
    return max(_LEAST_BILLED_S, ended_s - node.started_s) * node.share


def _row(line: UsageLine) -> tuple[str, ...]:
    numbers = (str(line.nodes), _hours(line.hours), money(line.usd), _share(line.idle_share))
    return (line.instance, line.market, *numbers)


def _share(share: float | None) -> str:
    return "?" if share is None else f"{share:.0%}"


def _hours(hours: float) -> str:
    return f"{hours:,.1f}"
