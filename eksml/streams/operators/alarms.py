"""Moments of event time that keys wait for: timers, and ends of sessions."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

from eksml.streams.operators.key_text import Key
from eksml.streams.operators.keyed import KeyedState


class Alarms:
    """Of the keys whose state is in memory: the store on the disk knows those of the others.

    Args:
        state: By key; what it says a key is next due at is the earliest of its moments.
        moments: All that a key's state waits for.
    """

    def __init__(self, state: KeyedState, moments: Callable[[Any], Iterable[int]]) -> None:
        self._state = state
        self._moments = moments
        self._set: list[tuple[int, int, Key]] = []
        self._turns = 0

    def set(self, time: int, key: Key) -> None:
        """Wait for one moment more."""
        self._turns += 1  # keys of one moment need not be comparable
        heapq.heappush(self._set, (time, self._turns, key))

    def wind(self, keys: Iterable[Key]) -> None:
        """Wait for all moments of keys that have come into memory."""
        for key in keys:
            for time in self._moments(self._state.get(key)):
                self.set(time, key)

    def settle(self, keys: Sequence[Key]) -> None:
        """Let the state of these keys settle; wait no more for those that went to the disk."""
        if self._state.settle(keys):
            self._set = [each for each in self._set if each[-1] in self._state]
            heapq.heapify(self._set)

    def due(self, watermark: int) -> Iterator[tuple[int, Key]]:
        """Moments that have come, in their order, those too that are set meanwhile. A key may have
        another state by now."""
        while self._set and self._set[0][0] <= watermark:
            time, _, key = heapq.heappop(self._set)
            yield time, key

    async def ring(self, watermark: int, answer: Callable[[int], Awaitable[None]]) -> None:
        """Event time has come to ``watermark``: ``answer`` takes what is ``due``, once for the keys
        in memory and then for those on the disk, one key group at a time."""
        await answer(watermark)
        for group in self._state.groups_due(watermark):
            keys = self._state.bring_due(group, watermark)
            self.wind(keys)
            await answer(watermark)
            self.settle(keys)
