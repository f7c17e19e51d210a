"""Both ends of streams on real servers: numbered events go in by portions, windows come out."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import eksml.streams as streams
from eksml.storage import URI
from eksml.streams.sinks.values import plain
from eksml.testing import KafkaBroker, NatsServer, PostgresServer

KEYS, PARTITIONS, FILES_A_PORTION, CHUNK = 100, 4, 4, 500


def numbered(number):
    """Events with these numbers, a thousand of them a second of event time."""
    return pa.table({"key": number % KEYS, "number": number, "at": number / 1000})


class Source:
    """Where numbered events go in. ``open(folder)`` gives one that has a server of its own."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        yield cls(folder)

    def __init__(self, folder: Path, server=None) -> None:
        self.folder = folder
        self.server = server
        self.fed = 0

    def feed(self, upto: int) -> None:
        """Put in every event with a number below ``upto`` that is not in yet."""
        self.put(range(self.fed, upto))
        self.fed = upto

    def has_given(self, at: dict) -> bool:
        """Whether positions of a checkpoint lie behind all that was fed."""
        return sum(at.values()) == self.fed


class GeneratorSource(Source):
    """A generator that waits for what may be given."""

    def stream(self):
        fence = self.folder / "fence"
        fence.write_text("0")

        def events(split, start):
            while True:
                allowed = int(fence.read_text() or 0) // 2
                for first in range(start, allowed, CHUNK):
                    yield numbered(np.arange(first, min(first + CHUNK, allowed)) * 2 + split)
                start = max(start, allowed)
                yield []

        return streams.generator(events, splits=2)

    def put(self, numbers) -> None:
        beside = self.folder / "fence.new"
        beside.write_text(str(numbers.stop))
        beside.rename(self.folder / "fence")


class FilesSource(Source):
    """Parquet files that appear in a folder."""

    def stream(self):
        (self.folder / "in").mkdir()
        return streams.files(self.folder / "in", follow=True)

    def put(self, numbers) -> None:
        for part in np.array_split(np.array(numbers), FILES_A_PORTION):
            beside = self.folder / "beside"
            pq.write_table(numbered(part), beside)
            beside.rename(self.folder / "in" / f"{part[0]:09d}.parquet")

    def has_given(self, at: dict) -> bool:
        names = {path.name for path in (self.folder / "in").iterdir()}
        return at == dict.fromkeys(names, "done")


class KafkaSource(Source):
    """A topic of several partitions."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        with KafkaBroker() as broker:
            yield cls(folder, broker)

    def stream(self):
        self.server.make_topic("in", PARTITIONS)
        return streams.kafka("in", self.server.servers)

    def put(self, numbers) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": self.server.servers, "linger.ms": 20})
        for row in numbered(np.array(numbers)).to_pylist():
            value, partition = json.dumps(row).encode(), row["number"] % PARTITIONS
            while True:
                try:
                    producer.produce("in", value, partition=partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0


class NatsSource(Source):
    """A subject of JetStream."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        with NatsServer() as server:
            yield cls(folder, server)

    def stream(self):
        self.server.make_stream("in")
        return streams.nats("in", self.server.servers)

    def put(self, numbers) -> None:
        asyncio.run(self._put(numbered(np.array(numbers)).to_pylist()))

    async def _put(self, rows) -> None:
        import nats

        client = await nats.connect(self.server.servers)
        stream = client.jetstream()
        for first in range(0, len(rows), 1000):
            part = rows[first : first + 1000]
            sent = [stream.publish("in", json.dumps(row).encode(), timeout=60) for row in part]
            await asyncio.gather(*sent)
        await client.close()


class Sink:
    """Where windows come out. ``open(folder)`` gives one that has a server of its own."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        yield cls(folder)

    def __init__(self, folder: Path, server=None) -> None:
        self.folder = folder
        self.server = server


class FilesSink(Sink):
    """Parquet files."""

    def end(self):
        return streams.files(self.folder / "out")

    def rows(self):
        return pq.read_table(self.folder / "out").to_pylist()


class KafkaSink(Sink):
    """A topic, read as one who sees committed records only."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        with KafkaBroker() as broker:
            yield cls(folder, broker)

    def end(self):
        self.server.make_topic("out", 2)
        return streams.kafka("out", self.server.servers, key="key")

    def rows(self):
        from eksml.streams.endpoints.kafka import Kafka
        from eksml.streams.sources.base import EndOfSource, Place

        async def read():
            source = Kafka("out", self.server.servers, bounded=True)
            reader = await source.reader(Place("test", 0, 1, {}))
            found = []
            try:
                while True:
                    got = await reader.read(0.5)
                    found += source.decode(got.batch).rows if got else []
            except EndOfSource:
                await reader.close()
            return found

        return asyncio.run(read())


class NatsSink(Sink):
    """A subject of JetStream."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        with NatsServer() as server:
            yield cls(folder, server)

    def end(self):
        self.server.make_stream("out")
        return streams.nats("out", self.server.servers)

    def rows(self):
        return asyncio.run(self._rows())

    async def _rows(self):
        import nats

        client = await nats.connect(self.server.servers)
        stream = client.jetstream()
        count = (await stream.stream_info("out")).state.messages
        subscription = await stream.pull_subscribe("out", "reader")
        found: list[dict] = []
        while len(found) < count:
            messages = await subscription.fetch(min(500, count - len(found)), timeout=10)
            for message in messages:
                found.append(json.loads(message.data))
                await message.ack()
        await client.close()
        return found


class PostgresSink(Sink):
    """A table without a unique key: a row that came twice would be there twice."""

    @classmethod
    @contextmanager
    def open(cls, folder: Path):
        with PostgresServer() as server:
            yield cls(folder, server)

    def end(self):
        self._do(
            "CREATE TABLE windows (key bigint, total bigint, events bigint, "
            "window_start timestamptz, window_end timestamptz)"
        )
        return streams.postgres("windows", self.server.dsn)

    def rows(self):
        return self._do("SELECT * FROM windows")

    def _do(self, statement):
        import psycopg
        from psycopg.rows import dict_row

        with psycopg.connect(self.server.dsn, row_factory=dict_row) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else None


class CallSink(Sink):
    """A function that stores each epoch's effect together with its key."""

    def end(self):
        folder = self.folder / "effects"

        def store(events, key):
            effect, text = folder / key.replace("/", "_"), json.dumps(events, default=plain)
            assert not effect.exists() or effect.read_text() == text, "one key, other events"
            URI.parse(effect).write_bytes(text.encode())

        return streams.call(store, each_epoch=True)

    def rows(self):
        effects = (self.folder / "effects").iterdir()
        return [row for effect in effects for row in json.loads(effect.read_bytes())]


SOURCES = {
    "generator": GeneratorSource,
    "files": FilesSource,
    "kafka": KafkaSource,
    "nats": NatsSource,
}
SINKS = {
    "files": FilesSink,
    "kafka": KafkaSink,
    "postgres": PostgresSink,
    "nats": NatsSink,
    "call": CallSink,
}
