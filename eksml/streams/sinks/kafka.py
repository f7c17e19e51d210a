"""Writes a topic: an epoch's events and the word that they are there, in one transaction.

Kafka's transactions cannot be taken up by another process after a crash, so the events of an epoch
are written ahead into the run's storage, and sent when the checkpoint stands. The transaction also
sets an offset of a consumer group of this sink's own to the number of the epoch: whoever begins the
same epoch again finds it there and sends nothing. A transactional id of its own for each writer
fences an older process that is still in the middle.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from eksml.errors import StorageUnavailable
from eksml.streams.endpoints.kafka import client_settings, missing
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, StagedWriter
from eksml.streams.sinks.values import plain

if TYPE_CHECKING:
    import confluent_kafka
    import pyarrow as pa

    from eksml.streams.endpoints.kafka import Kafka

_PATIENCE_S = 60.0


class KafkaWriter(StagedWriter):
    """One task's end of a topic."""

    def __init__(self, sink: Kafka, desk: Desk) -> None:
        super().__init__(desk)
        self._sink = sink
        self._transactions: dict[int, _Transactions] = {}

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        await asyncio.to_thread(self._send, epoch, writer, table)

    def _send(self, epoch: int, writer: int, table: pa.Table) -> None:
        if writer not in self._transactions:
            name = f"eksml-{self._desk.identity}-{self._desk.step}-{writer}"
            self._transactions[writer] = _Transactions(self._sink, name)
        self._transactions[writer].send(epoch, table)

    async def close(self) -> None:
        for each in self._transactions.values():
            await asyncio.to_thread(each.close)


class _Transactions:
    """Transactions under one id, and the epoch of the last one."""

    def __init__(self, sink: Kafka, name: str) -> None:
        try:
            import confluent_kafka
        except ImportError as error:
            raise missing("confluent-kafka") from error
        self._sink = sink
        settings = {"bootstrap.servers": sink.servers, **client_settings(sink.security)}
        self._marker = confluent_kafka.Consumer(
            {**settings, "group.id": name, "enable.auto.commit": False}
        )
        self._producer = confluent_kafka.Producer(
            {**settings, "transactional.id": name, "linger.ms": 5}
        )
        # Fences whoever used the id before, and ends what it had begun
        self._told(lambda: self._producer.init_transactions(_PATIENCE_S))

    def send(self, epoch: int, table: pa.Table) -> None:
        """Send an epoch's events, unless they are there.

        Raises:
            StorageUnavailable: Kafka does not answer, or a later process has taken over.
        """
        place = self._place(epoch)
        [before] = self._told(lambda: self._marker.committed([place], _PATIENCE_S))
        if before.offset >= epoch:
            return

        def transact() -> None:
            self._producer.begin_transaction()
            for key, value in _messages(table, self._sink):
                self._produce(key, value)
            group = self._marker.consumer_group_metadata()
            self._producer.send_offsets_to_transaction([place], group, _PATIENCE_S)
            self._producer.commit_transaction(_PATIENCE_S)

        self._told(transact)

    def _produce(self, key: bytes | None, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(self._sink.topic, value, key=key)
                return
            except BufferError:  # the client's queue is full
                self._producer.poll(0.1)

    def _place(self, epoch: int) -> confluent_kafka.TopicPartition:
        import confluent_kafka

        return confluent_kafka.TopicPartition(self._sink.topic, 0, epoch)

    def _told(self, work: Any) -> Any:
        import confluent_kafka

        try:
            return work()
        except confluent_kafka.KafkaException as error:
            raise StorageUnavailable(
                f"Kafka at {self._sink.servers}, topic {self._sink.topic!r}: {error}"
            ) from error

    def close(self) -> None:
        self._marker.close()


def _messages(table: pa.Table, sink: Kafka) -> Any:
    rows = table.drop_columns([TIME]).to_pylist()
    for row in rows:
        key = row.get(sink.key) if sink.key is not None else None
        as_json = sink.values == "json"
        value = json.dumps(row, default=plain).encode() if as_json else row["value"]
        yield None if key is None else str(key).encode(), value
