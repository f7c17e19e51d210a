"""Puts records into a stream of Kinesis when their checkpoint stands."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eksml.errors import StorageUnavailable
from eksml.streams.aws import told
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, StagedWriter
from eksml.streams.sinks.values import plain

if TYPE_CHECKING:
    import pyarrow as pa

    from eksml.streams.endpoints.kinesis import Kinesis

_MOST_RECORDS = 500
_MOST_BYTES = 4 << 20
"""Of one call; Kinesis takes 5 MiB, keys included."""
_TRIES = 10


class KinesisWriter(StagedWriter):
    """One task's end of a stream. A crash in the middle of an epoch puts it again."""

    def __init__(self, sink: Kinesis, desk: Desk) -> None:
        super().__init__(desk)
        self._sink = sink

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        rows = table.drop_columns([TIME]).to_pylist()
        await asyncio.to_thread(self._put, [self._record(n, row) for n, row in enumerate(rows)])

    def _record(self, number: int, row: dict[str, Any]) -> dict[str, Any]:
        key = number if self._sink.key is None else row.get(self._sink.key)
        return {"Data": json.dumps(row, default=plain).encode(), "PartitionKey": str(key)[:256]}

    def _put(self, records: list[dict[str, Any]]) -> None:
        """Put all, those again that Kinesis did not take.

        Raises:
            NotFound, AccessDenied, StorageUnavailable: The stream does not take them.
        """
        import boto3

        with told(f"stream {self._sink.stream!r} of Kinesis"):
            client: Any = boto3.client("kinesis")
            for part in _parts(records):
                self._put_part(client, part)

    def _put_part(self, client: Any, part: list[dict[str, Any]]) -> None:
        for tried in range(_TRIES):
            answer = client.put_records(StreamName=self._sink.stream, Records=part)
            told_of = zip(part, answer["Records"], strict=True)
            part = [record for record, result in told_of if "ErrorCode" in result]
            if not part:
                return
            time.sleep(min(2.0, 0.1 * 2**tried))
        raise StorageUnavailable(
            f"The stream {self._sink.stream!r} of Kinesis refused {len(part)} records {_TRIES} "
            "times. It may have too few shards for what is written."
        )


def _parts(records: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records of each call."""
    part: list[dict[str, Any]] = []
    size = 0
    for record in records:
        more = len(record["Data"]) + len(record["PartitionKey"])
        if part and (len(part) == _MOST_RECORDS or size + more > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(record)
        size += more
    if part:
        yield part
