"""Publishes to a subject of JetStream: each event has an id of its epoch and place, by which the
stream drops what comes again within its window for duplicates (two minutes unless set)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from eksml.errors import StorageUnavailable
from eksml.streams.endpoints.nats import Nats, missing
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, StagedWriter
from eksml.streams.sinks.values import plain

if TYPE_CHECKING:
    import pyarrow as pa

_AT_ONCE = 256


class NatsWriter(StagedWriter):
    """One task's end of a subject."""

    def __init__(self, sink: Nats, desk: Desk) -> None:
        super().__init__(desk)
        self._sink = sink
        self._client: Any = None

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        rows = table.drop_columns([TIME]).to_pylist()
        stem = f"{self._desk.name_of(writer)}/{epoch}"
        for first in range(0, len(rows), _AT_ONCE):
            part = rows[first : first + _AT_ONCE]
            await self._publish(part, [f"{stem}/{first + n}" for n in range(len(part))])

    async def _publish(self, rows: list[Any], ids: list[str]) -> None:
        """Publish, and wait until the stream has them.

        Raises:
            StorageUnavailable: NATS does not answer, or no stream has the subject.
        """
        try:
            import nats
        except ImportError as error:
            raise missing() from error
        try:
            if self._client is None:
                self._client = await nats.connect(self._sink.servers, connect_timeout=5)
            stream = self._client.jetstream()
            await asyncio.gather(
                *(
                    stream.publish(
                        self._sink.subject,
                        json.dumps(row, default=plain).encode(),
                        headers={"Nats-Msg-Id": key},
                    )
                    for row, key in zip(rows, ids, strict=True)
                )
            )
        except (nats.errors.Error, OSError) as error:
            raise StorageUnavailable(f"NATS at {self._sink.servers}: {error}") from error

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
