"""Barriers where several channels meet, and the order of what comes by each.

A task takes a snapshot of epoch ``n`` when barrier ``n`` has come by every channel. What comes by
a channel after its barrier belongs to the next epoch and waits (Chandy and Lamport 1985, aligned
as Flink does it). Messages of one channel carry numbers: calls may overtake each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Alignment:
    """Which channels have brought the barrier that is awaited. Pure."""

    def __init__(self, channels: Iterable[str]) -> None:
        self._channels = frozenset(channels)
        self._arrived: set[str] = set()
        self.epoch: int | None = None
        """The epoch whose barrier has come by some channels and not by others."""

    def arrive(self, channel: str, epoch: int) -> bool:
        """A barrier came. Returns whether it has now come by every channel."""
        assert channel in self._channels, channel
        assert self.epoch in (None, epoch), (self.epoch, epoch)
        self.epoch = epoch
        self._arrived.add(channel)
        if self._arrived < self._channels:
            return False
        self.epoch = None
        self._arrived = set()
        return True

    def holds(self, channel: str) -> bool:
        """Whether what comes by the channel has to wait."""
        return channel in self._arrived


class Inbox:
    """Lets messages in one after another: by number within a channel, not past a barrier."""

    def __init__(self, channels: Iterable[str]) -> None:
        names = list(channels)
        self.alignment = Alignment(names)
        self._next = dict.fromkeys(names, 0)
        self._waiting: dict[str, dict[int, asyncio.Future[None]]] = {name: {} for name in names}

    async def turn(self, channel: str, number: int) -> None:
        """Wait until message ``number`` of the channel may be worked on."""
        if number != self._next[channel] or self.alignment.holds(channel):
            future = asyncio.get_running_loop().create_future()
            self._waiting[channel][number] = future
            await future

    def done(self, channel: str) -> None:
        """The channel's present message has been worked on."""
        self._next[channel] += 1
        self.let_in(channel)

    def let_in(self, channel: str) -> None:
        """Wake the channel's next message, if it is there and may come."""
        future = self._waiting[channel].pop(self._next[channel], None)
        if future is None:
            return
        if self.alignment.holds(channel):
            self._waiting[channel][self._next[channel]] = future
        elif not future.done():
            future.set_result(None)

    def aligned(self) -> None:
        """Every channel may go on."""
        for channel in self._waiting:
            self.let_in(channel)

    @property
    def num_waiting(self) -> int:
        """Messages that have come and wait."""
        return sum(len(waiting) for waiting in self._waiting.values())
