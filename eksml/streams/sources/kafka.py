"""Reads partitions of a topic from positions that belong to the checkpoint, not to the group."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import NotFound, StorageUnavailable
from eksml.streams.batch import Batch
from eksml.streams.sources.base import EndOfSource, Place, Read

if TYPE_CHECKING:
    import aiokafka

    from eksml.streams.endpoints.kafka import Kafka

_MOST_RECORDS = 20_000
_FETCH_BYTES = 8 << 20


async def open_reader(source: Kafka, place: Place) -> KafkaReader:
    """A reader of this task's partitions.

    Raises:
        StorageUnavailable: No broker answers.
        NotFound: There is no such topic.
        MissingExtra: aiokafka is not installed.
    """
    try:
        import aiokafka
        from aiokafka.errors import KafkaError
    except ImportError as error:
        from eksml.streams.endpoints.kafka import missing

        raise missing("aiokafka") from error

    consumer = aiokafka.AIOKafkaConsumer(
        bootstrap_servers=source.servers,
        group_id=source.group,
        enable_auto_commit=False,
        isolation_level="read_committed",
        fetch_max_bytes=_FETCH_BYTES * 4,
        max_partition_fetch_bytes=_FETCH_BYTES,
        **source.security,
    )
    try:
        await consumer.start()
        reader = KafkaReader(source, place, consumer)
        await reader.seek()
        return reader
    except KafkaError as error:
        await consumer.stop()
        raise StorageUnavailable(f"Kafka at {source.servers}: {error}") from error


class KafkaReader:
    """Positions are by ``topic/partition``: the offset of the next record."""

    def __init__(self, source: Kafka, place: Place, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self._source = source
        self._place = place
        self._consumer = consumer
        self._positions: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._ready: deque[tuple[str, list[Any]]] = deque()

    async def seek(self) -> None:
        """Take partitions and go to where they were read to; new ones begin where the source says,
        once and for all."""
        from aiokafka import TopicPartition

        topic = self._source.topic
        known = await self._partitions()
        names = self._place.mine([f"{topic}/{number:06d}" for number in known])
        partitions = {name: TopicPartition(topic, int(name.rpartition("/")[2])) for name in names}
        self._consumer.assign(list(partitions.values()))
        if not partitions:
            return
        firsts = await self._consumer.beginning_offsets(list(partitions.values()))
        lasts = await self._consumer.end_offsets(list(partitions.values()))
        for name, partition in partitions.items():
            begin = firsts if self._source.start == "earliest" else lasts
            at = self._place.positions.get(name, begin[partition])
            self._consumer.seek(partition, at)
            self._positions[name] = at
            self._ends[name] = lasts[partition]

    async def _partitions(self) -> Sequence[int]:
        topics = await self._consumer.topics()
        if self._source.topic not in topics:
            raise NotFound(f"There is no topic {self._source.topic!r} at {self._source.servers}.")
        return sorted(self._consumer.partitions_for_topic(self._source.topic) or ())

    async def read(self, wait_s: float) -> Read | None:
        if not self._positions or (self._source.bounded and not self._left()):
            raise EndOfSource
        if not self._ready:
            found = await self._consumer.getmany(
                timeout_ms=round(wait_s * 1000), max_records=_MOST_RECORDS
            )
            for partition, records in found.items():
                self._ready.append((f"{partition.topic}/{partition.partition:06d}", records))
        if not self._ready:
            await self._skip()
            return None
        name, records = self._ready.popleft()
        self._positions[name] = records[-1].offset + 1
        return Read(name, self._batch(records))

    async def _skip(self) -> None:
        """Go past what is no record: ends of transactions have offsets too."""
        for partition in self._consumer.assignment():
            name = f"{partition.topic}/{partition.partition:06d}"
            self._positions[name] = await self._consumer.position(partition)

    def _left(self) -> list[str]:
        """Partitions that have more before the end that they had at the start."""
        return [name for name, at in self._positions.items() if at < self._ends[name]]

    def _batch(self, records: list[Any]) -> Batch:
        import numpy as np
        import pyarrow as pa

        times = np.fromiter((r.timestamp for r in records), np.int64, len(records)) * 1000
        columns = {"value": pa.array([r.value or b"" for r in records], pa.binary())}
        if self._source.values == "bytes":
            columns["key"] = pa.array([r.key for r in records], pa.binary())
            columns["partition"] = pa.array([r.partition for r in records])
            columns["offset"] = pa.array([r.offset for r in records])
        return Batch(times, columns=pa.RecordBatch.from_pydict(columns))

    @property
    def splits(self) -> Sequence[str]:
        return list(self._positions)

    def ended(self) -> Sequence[str]:
        if not self._source.bounded:
            return []
        left = self._left()
        return [name for name in self._positions if name not in left]

    def positions(self) -> dict[str, Any]:
        return dict(self._positions)

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Tell the group, for tools that show its lag; nothing is ever read from there."""
        from aiokafka import TopicPartition
        from aiokafka.errors import KafkaError

        if self._source.group is None or not positions:
            return
        offsets = {TopicPartition(*_split(name)): at for name, at in positions.items()}
        with contextlib.suppress(KafkaError):  # a lag that is shown wrong is no reason to stop
            await self._consumer.commit(offsets)

    async def close(self) -> None:
        await self._consumer.stop()


def _split(name: str) -> tuple[str, int]:
    topic, _, number = name.rpartition("/")
    return topic, int(number)
