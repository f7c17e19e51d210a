"""A subject of NATS JetStream, at either end of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eksml.errors import MissingExtra, Problem
from eksml.streams.batch import Batch
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee, Place, Reader, Source


@dataclass(frozen=True)
class Nats(Source, Sink):
    """As a source, messages are read by their numbers in the stream, which the checkpoint holds. As
    a sink, each has an id by which JetStream drops one that comes again within its window."""

    kind: ClassVar[str] = "nats"
    source_guarantee: ClassVar[Guarantee] = "exactly-once"
    sink_guarantee: ClassVar[Guarantee] = "exactly-once"
    subject: str
    servers: str

    def problems(self) -> Iterator[Problem]:
        for name in ("subject", "servers"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                remedy = 'Write nats("events", "nats://host:4222").'
                yield Problem(name, f"{value!r:.40} is no text.", remedy)

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.nats import open_reader

        return await open_reader(self, place)

    def decode(self, batch: Batch) -> Batch:
        from eksml.streams.sources.json_lines import decode

        return batch.with_columns(decode(batch.column("value")))

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.nats import NatsWriter

        return NatsWriter(self, desk)


def missing() -> MissingExtra:
    """What to tell who has no client for NATS."""
    return MissingExtra('NATS needs nats-py: pip install "eksml[nats]".')
