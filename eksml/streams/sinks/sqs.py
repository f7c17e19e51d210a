"""Sends messages to a queue of SQS when their checkpoint stands."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from eksml.streams.batch import Batch
from eksml.streams.requests.queue import Queue
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, Staged
from eksml.streams.sinks.values import plain


class SqsWriter:
    """One task's end of a queue. A crash in the middle of sending an epoch sends it again."""

    def __init__(self, queue: Queue, desk: Desk) -> None:
        self._queue = queue
        self._staged = Staged(desk)

    async def write(self, batch: Batch) -> None:
        self._staged.add(batch)

    async def prepare(self, epoch: int) -> Any:
        return await self._staged.prepare(epoch)

    async def commit(self, epoch: int, token: Any) -> None:
        table = await self._staged.take(token)
        if table is None:
            return
        for row in table.drop_columns([TIME]).to_pylist():
            body = json.dumps(row, default=plain)
            await asyncio.to_thread(self._queue.send, body)
        await self._staged.done(token)

    async def close(self) -> None:
        """Nothing is open."""
