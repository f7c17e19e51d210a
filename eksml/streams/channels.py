"""The way from one task to another: in order, in few large messages, and not faster than taken."""

from __future__ import annotations

import enum
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from eksml.streams.batch import Batch, concat
from eksml.streams.keys import NUM_GROUPS, owner
from eksml.streams.watermarks import Mark

if TYPE_CHECKING:
    from ray.actor import ActorHandle

CREDITS = 4
"""Messages that may be on the way, or waiting, in one channel."""
_ENOUGH_ROWS = 8192
"""Events that are worth a message of their own."""


class PeerLost(Exception):
    """The task at the other end is gone, or has failed; it tells why, if it can."""


class Lost(enum.Enum):
    """What a task answers that has failed, or is part of another incarnation."""

    LOST = "lost"


LOST = Lost.LOST


class Address(NamedTuple):
    """An input of a step in another task."""

    step: str
    side: int


@dataclass(frozen=True)
class Message:
    """What goes to another task at once: events, then how far time has come, then a barrier."""

    events: tuple[tuple[Address, Batch], ...]
    marks: tuple[tuple[Address, Mark], ...]
    barrier: int | None


class Channel:
    """From this task to one other. Waits in :meth:`send` while the other has not taken enough."""

    def __init__(self, name: str, incarnation: int, handle: ActorHandle) -> None:
        self._name = name
        self._incarnation = incarnation
        self._handle = handle
        self._number = 0
        self._events: dict[Address, list[Batch]] = {}
        self._marks: dict[Address, Mark] = {}
        self._num_rows = 0
        self._on_the_way: deque[Any] = deque()
        self.blocked_s = 0.0

    async def add(self, address: Address, batch: Batch) -> None:
        """Take events; they leave when they are many, or at the next :meth:`flush`."""
        self._events.setdefault(address, []).append(batch)
        self._num_rows += len(batch)
        if self._num_rows >= _ENOUGH_ROWS:
            await self.flush()

    def mark(self, address: Address, mark: Mark) -> None:
        """Take a watermark. Events that are added after it overtake it, which harms nobody."""
        self._marks[address] = mark

    async def flush(self, barrier: int | None = None) -> None:
        """Send what there is, and the barrier of an epoch behind it.

        Raises:
            PeerLost: The other task does not live.
        """
        if not self._events and not self._marks and barrier is None:
            return
        events = tuple((address, concat(each)) for address, each in self._events.items())
        message = Message(events, tuple(self._marks.items()), barrier)
        self._events, self._marks, self._num_rows = {}, {}, 0
        if len(self._on_the_way) >= CREDITS:
            began = time.perf_counter()
            await self._taken()
            self.blocked_s += time.perf_counter() - began
        number, self._number = self._number, self._number + 1
        try:
            self._on_the_way.append(
                self._handle.push.remote(self._incarnation, self._name, number, message)
            )
        except Exception as error:  # Ray raises different ones for an actor that it knows is dead
            raise PeerLost(self._name) from error

    async def _taken(self) -> None:
        try:
            answer = await self._on_the_way.popleft()
        except Exception as error:  # Ray's word for a death
            raise PeerLost(self._name) from error
        if answer is LOST:
            raise PeerLost(self._name)


class ByKey:
    """An output whose events go to the tasks that own their key groups."""

    def __init__(self, channels: list[Channel], address: Address) -> None:
        import numpy as np

        self._channels = channels
        self._address = address
        count = len(channels)
        self._owners = np.array([owner(group, count) for group in range(NUM_GROUPS)])

    async def take(self, batch: Batch) -> None:
        """Send each event to its owner."""
        owners = self._owners[batch.groups]
        for index, channel in enumerate(self._channels):
            part = batch.filter(owners == index)
            if len(part):
                await channel.add(self._address, part)

    async def advance(self, mark: Mark) -> None:
        """Tell everybody."""
        for channel in self._channels:
            channel.mark(self._address, mark)


class Forward:
    """An output whose events go to the task of the same number."""

    def __init__(self, channel: Channel, address: Address) -> None:
        self._channel = channel
        self._address = address

    async def take(self, batch: Batch) -> None:
        await self._channel.add(self._address, batch)

    async def advance(self, mark: Mark) -> None:
        self._channel.mark(self._address, mark)
