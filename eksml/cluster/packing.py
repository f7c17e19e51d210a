"""Placing bundles of resources on nodes: first fit, found by a tree instead of by looking at all.

Nodes in the same state are one slot with a count, so that a group of a million nodes is no more
work than one of two. A segment tree over the slots holds, for each resource, the most that any
slot below still has: whole branches that cannot hold a bundle are skipped. Placing *k* different
bundles over *n* groups costs about k · log(n) instead of k · n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Resources = Mapping[str, float]
Amounts = tuple[float, ...]

ROUNDING = 1e-6
"""Ray counts in ten-thousandths; sums of floats must not lose a whole worker."""

ENDLESS = 1_000_000_000
"""Stands for «as often as you like» where a bundle is empty or a resource unlimited."""


def times(bundle: Resources, free: Resources) -> int:
    """How often ``bundle`` goes into ``free``."""
    often = min((free.get(name, 0.0) / amount for name, amount in bundle.items()), default=math.inf)
    return int(often + ROUNDING) if often < ENDLESS else ENDLESS


class Slots:
    """What is still free on a set of nodes, in an order of preference."""

    def __init__(self, names: Sequence[str]) -> None:
        """``names``: the resources that matter; all others are forgotten."""
        self._names = tuple(names)
        # One more than names: it tells a slot without resources from no slot
        self._nothing: Amounts = (-1.0,) * (len(self._names) + 1)
        self._free: list[Amounts] = []
        self._nodes: list[int] = []
        self._owner: list[int] = []
        self._leaves = 1
        self._most: list[Amounts] = [self._nothing, self._nothing]

    def add(self, owner: int, free: Resources, nodes: int) -> None:
        """``nodes`` equal nodes that belong to ``owner``, behind those that are there."""
        if nodes:
            self._append(owner, self._amounts(free), nodes)

    def place(self, bundle: Resources, wanted: int) -> dict[int, int]:
        """Place up to ``wanted`` equal bundles, each on one node; owner to how many it got."""
        asked = self._amounts(bundle)
        least = tuple(amount * (1 - ROUNDING) for amount in asked)
        placed: dict[int, int] = {}
        left = wanted
        while left and (slot := self._first(least)) is not None:
            taken = self._take(slot, asked, left)
            owner = self._owner[slot]
            placed[owner] = placed.get(owner, 0) + taken
            left -= taken
        return placed

    def _amounts(self, resources: Resources) -> Amounts:
        return (0.0, *(float(resources.get(name, 0.0)) for name in self._names))

    def _take(self, slot: int, asked: Amounts, wanted: int) -> int:
        """Fill nodes of one slot; they move to slots of their own, the untouched ones stay."""
        free, nodes, owner = self._free[slot], self._nodes[slot], self._owner[slot]
        each = max(1, _times(asked, free))
        full = min(nodes, wanted // each)
        part = wanted - full * each if full < nodes else 0
        rest = nodes - full - (1 if part else 0)
        states = [(_less(free, asked, each), full), (_less(free, asked, part), 1 if part else 0)]
        made = [(state, count) for state, count in states if count]
        if rest:
            self._nodes[slot] = rest
        else:
            state, count = made.pop(0)
            self._set(slot, state, count)
        for state, count in made:
            self._append(owner, state, count)
        return full * each + part

    def _append(self, owner: int, free: Amounts, nodes: int) -> None:
        slot = len(self._free)
        self._free.append(free)
        self._nodes.append(nodes)
        self._owner.append(owner)
        if slot == self._leaves:
            self._grow()
        else:
            self._raise_to(slot, free)

    def _set(self, slot: int, free: Amounts, nodes: int) -> None:
        self._free[slot], self._nodes[slot] = free, nodes
        self._raise_to(slot, free)

    def _grow(self) -> None:
        """Twice as many leaves, built anew: seldom enough to cost nothing on average."""
        self._leaves *= 2
        empty = self._leaves - len(self._free)
        most = [self._nothing] * self._leaves + self._free + [self._nothing] * empty
        for node in range(self._leaves - 1, 0, -1):
            most[node] = tuple(map(max, most[2 * node], most[2 * node + 1]))
        self._most = most

    def _raise_to(self, slot: int, free: Amounts) -> None:
        most = self._most
        node = self._leaves + slot
        most[node] = free
        while node > 1:
            node //= 2
            known, now = most[node], tuple(map(max, most[2 * node], most[2 * node + 1]))
            if known == now:
                return
            most[node] = now

    def _first(self, least: Amounts) -> int | None:
        """The first slot with at least that much of everything."""
        most, leaves = self._most, self._leaves
        waiting = [1]
        while waiting:
            node = waiting.pop()
            if any(map(float.__lt__, most[node], least)):
                continue
            if node >= leaves:
                return node - leaves
            waiting += (2 * node + 1, 2 * node)
        return None


def _times(asked: Amounts, free: Amounts) -> int:
    often = min((have / want for have, want in zip(free, asked, strict=True) if want), default=None)
    return ENDLESS if often is None or often >= ENDLESS else int(often + ROUNDING)


def _less(free: Amounts, asked: Amounts, count: int) -> Amounts:
    return tuple(max(0.0, have - count * want) for have, want in zip(free, asked, strict=True))
