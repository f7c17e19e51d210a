"""Sends messages to a queue of SQS when their checkpoint stands."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from eksml.streams.requests.queue import Queue
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, StagedWriter
from eksml.streams.sinks.values import plain

if TYPE_CHECKING:
    import pyarrow as pa


class SqsWriter(StagedWriter):
    """One task's end of a queue. A crash in the middle of sending an epoch sends it again."""

    def __init__(self, queue: Queue, desk: Desk) -> None:
        super().__init__(desk)
        self._queue = queue

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        for row in table.drop_columns([TIME]).to_pylist():
            body = json.dumps(row, default=plain)
            await asyncio.to_thread(self._queue.send, body)
