"""Reads a queue of SQS: messages stay hidden until a checkpoint stands, and are deleted then."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from eksml.errors import StorageError
from eksml.streams.batch import Batch, Event
from eksml.streams.requests.events import requests_of
from eksml.streams.requests.message import Message
from eksml.streams.requests.queue import Queue
from eksml.streams.sources.base import Place, Read

_COMING_BACK = 10
"""After a restart, messages of the last checkpoint that are not back after so many times the
visibility were deleted."""
_MOST_HELD = 10_000
"""Messages that wait for their checkpoint; SQS hides 120,000 at the most. No more are read."""


class SqsReader:
    """Positions are the ids of messages that were given and whose deletion is not certain; after a
    restart they come again, and are deleted without being given again."""

    def __init__(self, queue: Queue, visibility_s: int, place: Place) -> None:
        self._queue = queue
        self._visibility_s = visibility_s
        self._split = f"sqs-{place.index:04d}"
        self._known = {key for ids in place.positions.values() for key in ids}
        self._known_until_s = time.monotonic() + _COMING_BACK * visibility_s
        self._held: dict[str, Message] = {}
        self._extended_s = time.monotonic()
        self._asking: asyncio.Task[list[Message]] | None = None

    async def read(self, wait_s: float) -> Read | None:
        await self._extend()
        if self._asking is None and len(self._held) < _MOST_HELD:
            self._asking = asyncio.create_task(asyncio.to_thread(self._queue.receive, 10, 1.0))
        if self._asking is None or not self._asking.done():
            return None
        messages, self._asking = self._asking.result(), None
        events: list[Event] = []
        for message in messages:
            events += await self._take(message)
        return Read(self._split, _batch(events)) if events else None

    async def _take(self, message: Message) -> list[Event]:
        if message.id in self._known:  # a checkpoint holds what it did
            await asyncio.to_thread(self._queue.delete, message.receipt)
            return []
        again = message.id in self._held
        self._held[message.id] = message
        if again:
            return []
        try:
            return [request.event for request in requests_of(message.body, message.id)]
        except ValueError:
            return [{"body": message.body}]

    async def _extend(self) -> None:
        """Keep what is held from others."""
        if time.monotonic() - self._extended_s < self._visibility_s / 3:
            return
        self._extended_s = time.monotonic()
        if self._extended_s > self._known_until_s:
            self._known.clear()
        held = list(self._held.values())
        extend = self._queue.extend
        await asyncio.gather(*(asyncio.to_thread(extend, each.receipt) for each in held))

    @property
    def splits(self) -> Sequence[str]:
        return [self._split]

    def ended(self) -> Sequence[str]:
        return []

    def positions(self) -> dict[str, Any]:
        return {self._split: sorted({*self._held, *self._known})}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """What the messages did is in a checkpoint: delete them."""
        for key in positions[self._split]:
            message = self._held.get(key)
            if message is not None:
                with contextlib.suppress(StorageError):  # it comes again, and is known
                    await asyncio.to_thread(self._queue.delete, message.receipt)
                    del self._held[key]

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()


def _batch(events: list[Event]) -> Batch:
    import numpy as np

    return Batch(np.full(len(events), time.time_ns() // 1000, np.int64), rows=events)
