"""A stream of Kinesis, at either end of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Literal, TypeAlias

from eksml.errors import Problem
from eksml.streams.batch import Batch
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee, Place, Reader, Source

Start: TypeAlias = Literal["earliest", "latest"] | datetime


@dataclass(frozen=True)
class Kinesis(Source, Sink):
    """As a source, shards are read by sequence numbers that the checkpoint holds, parents before
    their children. As a sink, records are put when their checkpoint stands; a crash meanwhile puts
    some again, since Kinesis knows no transactions."""

    kind: ClassVar[str] = "kinesis"
    source_guarantee: ClassVar[Guarantee] = "exactly-once"
    sink_guarantee: ClassVar[Guarantee] = "at-least-once"
    stream: str
    key: str | None = None
    start: Start = "earliest"

    def problems(self) -> Iterator[Problem]:
        if not isinstance(self.stream, str) or not self.stream:
            yield Problem("stream", f"{self.stream!r:.60} is no name of a stream.")
        if self.key is not None and not isinstance(self.key, str):
            yield Problem("key", f"{self.key!r:.60} is no column.", 'Write key="user".')
        aware = isinstance(self.start, datetime) and self.start.tzinfo is not None
        if not aware and self.start not in ("earliest", "latest"):
            remedy = "Use earliest, latest, or a datetime with a time zone."
            yield Problem("start", f"{self.start!r:.60} is no place to begin at.", remedy)

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.kinesis import open_reader

        return await open_reader(self, place)

    def decode(self, batch: Batch) -> Batch:
        from eksml.streams.sources.json_lines import decode

        return batch.with_columns(decode(batch.column("value")))

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.kinesis import KinesisWriter

        return KinesisWriter(self, desk)
