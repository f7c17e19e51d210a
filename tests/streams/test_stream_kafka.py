"""Kafka at both ends of a stream, on a real broker: each record once, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter

import pytest
from simulation import Simulation

import eksml.streams as streams
from eksml.errors import NotFound, StorageUnavailable
from eksml.storage import URI
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.sinks.base import Desk
from eksml.streams.sources.base import Place
from eksml.testing import KafkaBroker


@pytest.fixture(scope="module")
def broker():
    with KafkaBroker() as server:
        yield server


def produce(broker, topic, events, partitions=1):
    from confluent_kafka import Producer

    broker.make_topic(topic, partitions)
    producer = Producer({"bootstrap.servers": broker.servers})
    for number, event in enumerate(events):
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        producer.produce(topic, value, partition=number % partitions)
    producer.flush()


def consume(broker, topic) -> list[dict]:
    """Every record that the topic holds."""

    async def read():
        source = Kafka(topic, broker.servers, bounded=True)
        reader = await source.reader(Place("test", 0, 1, {}))
        found = []
        while reader._left():
            got = await reader.read(0.1)
            found += source.decode(got.batch).rows if got else []
        await reader.close()
        return found

    return asyncio.run(read())


async def disturbed(simulation, workers):
    rng = simulation.rng
    await simulation.start(rng.choice(workers))
    for _ in range(10):
        for _ in range(rng.randrange(1, 4)):
            await simulation.read()
            await asyncio.sleep(0.02)
        await simulation.checkpoint(commit=rng.random() < 0.5)
        if rng.random() < 0.3:
            await simulation.half_checkpoint()
        for task in simulation.tasks.values():
            await task._wired.close()
        await simulation.crash()
        await simulation.start(rng.choice(workers))
    await simulation.finish()
    for task in simulation.tasks.values():
        await task._wired.close()


def test_records_go_from_topic_to_topic_once_through_crashes(broker, tmp_path):
    produce(broker, "numbers", [{"n": n, "key": n % 5} for n in range(3000)], partitions=3)
    broker.make_topic("counts", 2)
    graph = (
        streams.kafka("numbers", broker.servers, group="counting", bounded=True)
        .key_by("key")
        .reduce({"count": "count"})
        .to(streams.kafka("counts", broker.servers, key="key"))
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "counting"), seed=5)
    asyncio.run(disturbed(simulation, (1, 2)))
    found = consume(broker, "counts")
    assert Counter(event["n"] for event in found) == Counter(range(3000))
    assert {(e["key"], e["count"]) for e in found} == {
        (key, count) for key in range(5) for count in range(1, 601)
    }


def test_an_epoch_that_is_committed_again_is_there_once(broker, tmp_path):
    from eksml.streams.batch import Batch

    broker.make_topic("again")

    async def write():
        import numpy as np

        desk = Desk("to_kafka", 0, URI.parse(tmp_path / "mine"), secrets.token_hex(4), 1)
        first = await Kafka("again", broker.servers).writer(desk)
        await first.write(Batch(np.zeros(3, np.int64), rows=[{"n": n} for n in range(3)]))
        token = await first.prepare(7)
        # Sent, and killed before the run's storage heard of it
        table = await first._staged.take(token)
        await asyncio.to_thread(first._send, 7, 0, table)
        second = await Kafka("again", broker.servers).writer(desk)
        await second.commit(7, token)
        await second.commit(7, token)
        await first.close()
        await second.close()

    asyncio.run(write())
    assert [event["n"] for event in consume(broker, "again")] == [0, 1, 2]


def test_what_is_no_json_goes_to_the_dead_letters(broker, tmp_path):
    produce(broker, "mixed", [{"n": 1}, b"{broken", {"n": 2}, b"[]", {"n": 3}])
    good, dead = [], []
    graph = streams.kafka("mixed", broker.servers, bounded=True).to(
        streams.call(lambda events: good.extend(events))
    )
    letters = streams.call(lambda events: dead.extend(events))
    simulation = Simulation(graph, URI.parse(tmp_path / "mixed"), dead_letters=letters)

    async def run():
        await simulation.start(1)
        await simulation.finish()
        for task in simulation.tasks.values():
            await task._wired.close()

    asyncio.run(run())
    assert [event["n"] for event in good] == [1, 2, 3]
    assert [letter["step"] for letter in dead] == ["kafka", "kafka"]
    assert "not JSON" in dead[0]["message"]


def test_a_group_shows_what_the_checkpoints_hold(broker, tmp_path):
    from confluent_kafka import Consumer, TopicPartition

    produce(broker, "shown", [{"n": n} for n in range(10)])
    graph = streams.kafka("shown", broker.servers, group="lag", bounded=True).to(
        streams.call(lambda events: None)
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "shown"))

    async def run():
        await simulation.start(1)
        await simulation.finish()
        for task in simulation.tasks.values():
            await task._wired.close()

    asyncio.run(run())
    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": "lag"})
    [place] = consumer.committed([TopicPartition("shown", 0)], 10)
    consumer.close()
    assert place.offset == 10


def test_a_topic_that_is_not_there_and_a_broker_that_is_not_are_told(broker):
    with pytest.raises(NotFound, match="no topic 'nowhere'"):
        asyncio.run(Kafka("nowhere", broker.servers).reader(Place("test", 0, 1, {})))
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:1"):
        asyncio.run(Kafka("nowhere", "127.0.0.1:1").reader(Place("test", 0, 1, {})))
