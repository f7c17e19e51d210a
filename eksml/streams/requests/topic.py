"""A topic of Kafka as a queue: its messages are done in any order, and its offsets committed up to
the first one that is not done."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from eksml.errors import NotFound, StorageUnavailable
from eksml.streams.endpoints.kafka import Kafka, client_settings, missing
from eksml.streams.requests.message import Message

if TYPE_CHECKING:
    import confluent_kafka

_PATIENCE_S = 10.0
_COMMIT_S = 1.0
"""Between commits; what was done since comes again after a crash, and is known to be done."""
_ASK_S = 1.0
"""Between questions for the ends of partitions."""
_NEW_PARTITIONS_S = 30.0
"""Between looks for them."""


class Topic:
    """All partitions of a topic, for one process, which takes care that there is no other one.

    Places are ``(partition, offset)``. A group that nobody is a member of keeps the offsets, so
    that every tool shows the lag.

    Raises, in every method:
        StorageUnavailable: No broker answers.
    """

    def __init__(self, source: Kafka, group: str, most: int) -> None:
        """``most`` messages are kept ready.

        Raises:
            NotFound: There is no such topic.
        """
        import confluent_kafka

        self._source = source
        self._most = most
        self._consumer = confluent_kafka.Consumer(_settings(source, group))
        self._read_to: dict[int, int] = {}
        """Of each partition, the offset of the next record."""
        self._open: dict[tuple[int, int], int] = {}
        """Messages that were read and are not done, and how often they were received."""
        self._ready: deque[tuple[tuple[int, int], Message]] = deque()
        self._committed: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._asked_s = -math.inf
        self._committed_s = self._looked_s = time.monotonic()
        self._take_partitions(source.start)

    def _take_partitions(self, start: str) -> None:
        """Read partitions that are new, from where the group stands, or else from ``start`` on."""
        topic = self._source.topic
        known = partitions_of(self._consumer, self._source)
        new = [_place(topic, number) for number in known if number not in self._read_to]
        if not new:
            return
        for place in self._told(lambda: self._consumer.committed(new, _PATIENCE_S)):
            low, high = self._bounds(place)
            begin = low if start == "earliest" else high
            at = max(low, place.offset) if place.offset >= 0 else begin
            self._read_to[place.partition] = at
        self._told(
            lambda: self._consumer.incremental_assign(
                [_place(topic, each.partition, self._read_to[each.partition]) for each in new]
            )
        )
        self.commit()  # so that «latest» means the same after a restart

    def _bounds(self, place: Any) -> tuple[int, int]:
        found: tuple[int, int] = self._told(
            lambda: self._consumer.get_watermark_offsets(place, _PATIENCE_S)
        )
        return found

    def next(self) -> tuple[tuple[int, int], Message] | None:
        """A message with its place; None if there is none at present."""
        self._read()
        return self._ready.popleft() if self._ready else None

    def _read(self) -> None:
        import confluent_kafka

        room = self._most - len(self._ready)
        found = self._told(lambda: self._consumer.consume(room, 0)) if room > 0 else ()
        for record in found:
            error = record.error()
            if error is None:
                self._take(record)
            elif error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
                # Past the ends of transactions, which have offsets too
                self._read_to[record.partition()] = record.offset()
            elif error.fatal():
                raise self._unavailable(error)

    def _take(self, record: Any) -> None:
        number, offset = record.partition(), record.offset()
        self._read_to[number] = offset + 1
        _, sent_ms = record.timestamp()
        # With the time: a topic that was deleted and made again has the same offsets
        id = f"{record.topic()}-{number}-{offset}-{sent_ms}"
        self._open[number, offset] = 1
        self._ready.append(((number, offset), Message(id, record.value() or b"", 1)))

    def done(self, place: tuple[int, int]) -> None:
        """The message needs nobody any more."""
        del self._open[place]

    def again(self, place: tuple[int, int], message: Message, *, counts: bool) -> None:
        """Somebody else shall have it; ``counts``: as one more receive."""
        self._open[place] += counts
        self._ready.append((place, replace(message, receives=self._open[place])))

    def tend(self) -> None:
        """Commit now and then, and look for new partitions."""
        now_s = time.monotonic()
        if now_s - self._committed_s > _COMMIT_S:
            self._committed_s = now_s
            self.commit()
        if now_s - self._looked_s > _NEW_PARTITIONS_S:
            self._looked_s = now_s
            self._take_partitions("earliest")

    def commit(self) -> None:
        """Tell the group up to where everything is done."""
        offsets = dict(self._read_to)
        for number, offset in self._open:
            offsets[number] = min(offset, offsets[number])
        changed = {n: at for n, at in offsets.items() if self._committed.get(n) != at}
        if changed:
            topic = self._source.topic
            places = [_place(topic, number, at) for number, at in changed.items()]
            self._told(lambda: self._consumer.commit(offsets=places, asynchronous=False))
            self._committed |= changed

    def waiting(self) -> int:
        """Messages that nobody has: the lag, without what is being worked on."""
        self._read()
        if time.monotonic() - self._asked_s > _ASK_S:
            topic = self._source.topic
            self._ends = {each: self._bounds(_place(topic, each))[1] for each in self._read_to}
            self._asked_s = time.monotonic()
        unread = (max(0, self._ends.get(each, at) - at) for each, at in self._read_to.items())
        return sum(unread) + len(self._ready)

    def close(self) -> None:
        """Commit, and leave."""
        try:
            self.commit()
        finally:
            self._consumer.close()

    def _told(self, work: Any) -> Any:
        import confluent_kafka

        try:
            return work()
        except confluent_kafka.KafkaException as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: object) -> StorageUnavailable:
        return _unavailable(self._source, error)


def _settings(source: Kafka, group: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": source.servers,
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": 16_384,
        **client_settings(source.security),
    }


def check(source: Kafka) -> None:
    """Is it there?

    Raises:
        NotFound: There is no such topic.
        StorageUnavailable: No broker answers.
        MissingExtra: confluent-kafka is not installed.
    """
    try:
        from confluent_kafka.admin import AdminClient
    except ImportError as error:
        raise missing("confluent-kafka") from error
    settings = {"bootstrap.servers": source.servers, **client_settings(source.security)}
    partitions_of(AdminClient(settings), source)


def partitions_of(client: Any, source: Kafka) -> list[int]:
    """Numbers of a topic's partitions. Raises as :func:`check` does."""
    import confluent_kafka

    try:
        # Of all topics: to ask for one of them can make it
        found = client.list_topics(timeout=_PATIENCE_S).topics.get(source.topic)
    except confluent_kafka.KafkaException as error:
        raise _unavailable(source, error) from error
    if found is None or found.error is not None or not found.partitions:
        raise NotFound(f"There is no topic {source.topic!r} at {source.servers}.")
    return sorted(found.partitions)


def send(target: Kafka, body: str | bytes) -> None:
    """Put one message into a topic, and wait until it is there.

    Raises:
        StorageUnavailable: It does not arrive.
    """
    import confluent_kafka

    failed: list[Any] = []
    settings = {"bootstrap.servers": target.servers, "enable.idempotence": True}
    producer = confluent_kafka.Producer({**settings, **client_settings(target.security)})
    producer.produce(
        target.topic, body, on_delivery=lambda error, _: failed.append(error) if error else None
    )
    if producer.flush(_PATIENCE_S) or failed:
        raise _unavailable(target, failed[0] if failed else "it does not answer")


def _unavailable(end: Kafka, error: object) -> StorageUnavailable:
    return StorageUnavailable(f"Kafka at {end.servers}, topic {end.topic!r}: {error}")


def _place(topic: str, partition: int, offset: int | None = None) -> confluent_kafka.TopicPartition:
    import confluent_kafka

    place = (topic, partition) if offset is None else (topic, partition, offset)
    return confluent_kafka.TopicPartition(*place)
