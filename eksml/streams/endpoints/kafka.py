"""Kafka, and MSK, at either end of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from eksml.errors import MissingExtra, Problem
from eksml.streams.batch import Batch
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee, Place, Reader, Source

Values = Literal["json", "bytes"]
VALUES = ("json", "bytes")
STARTS = ("earliest", "latest")


@dataclass(frozen=True)
class Kafka(Source, Sink):
    """A topic. As a source its partitions are read from positions of ours; as a sink it is written
    in one transaction for each checkpoint and worker."""

    kind: ClassVar[str] = "kafka"
    source_guarantee: ClassVar[Guarantee] = "exactly-once"
    sink_guarantee: ClassVar[Guarantee] = "exactly-once"
    topic: str
    servers: str
    group: str | None = None
    start: Literal["earliest", "latest"] = "earliest"
    values: Values = "json"
    key: str | None = None
    bounded: bool = False
    security: dict[str, Any] = field(default_factory=dict)

    def problems(self) -> Iterator[Problem]:
        for name in ("topic", "servers"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                yield Problem(
                    name, f"{value!r:.40} is no text.", 'Write kafka("events", "b-1:9092").'
                )
        if self.start not in STARTS:
            yield Problem("start", f"{self.start!r:.40} is no place.", "Use earliest or latest.")
        if self.values not in VALUES:
            yield Problem("values", f"{self.values!r:.40} is no format.", "Use json or bytes.")

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.kafka import open_reader

        return await open_reader(self, place)

    def decode(self, batch: Batch) -> Batch:
        if self.values != "json":
            return batch
        from eksml.streams.sources.json_lines import decode

        return batch.with_columns(decode(batch.column("value")))

    def replaces(self) -> bool:
        """Readers of a keyed topic take the last record of a key."""
        return self.key is not None

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.kafka import KafkaWriter

        return KafkaWriter(self, desk)


def client_settings(security: dict[str, Any]) -> dict[str, Any]:
    """The same settings in the words of the other client: ``security_protocol`` and so on."""
    return {name.replace("sasl_plain", "sasl").replace("_", "."): v for name, v in security.items()}


def missing(package: str) -> MissingExtra:
    """What to tell who has no client for Kafka."""
    return MissingExtra(f'Kafka needs {package}: pip install "eksml[kafka]".')
