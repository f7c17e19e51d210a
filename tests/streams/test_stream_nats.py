"""NATS JetStream at both ends of a stream: each message once through crashes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest
from simulation import Simulation

import eksml.streams as streams
from eksml.errors import NotFound, StorageUnavailable
from eksml.storage import URI
from eksml.streams.endpoints.nats import Nats
from eksml.streams.sources.base import Place
from eksml.testing import NatsServer


@pytest.fixture(scope="module")
def server():
    with NatsServer() as found:
        yield found


async def publish(server, subject, count):
    import nats

    client = await nats.connect(server.servers)
    for number in range(count):
        await client.jetstream().publish(subject, json.dumps({"n": number}).encode())
    await client.close()


async def everything(server, subject):
    reader = await Nats(subject, server.servers).reader(Place("test", 0, 1, {}))
    found = []
    for _ in range(30):
        read = await reader.read(0)
        found += [json.loads(v) for v in read.batch.column("value").to_pylist()] if read else []
        await asyncio.sleep(0.05)
    await reader.close()
    return found


def test_messages_go_from_subject_to_subject_once_through_crashes(server, tmp_path):
    server.make_stream("numbers")
    server.make_stream("counts")
    graph = (
        streams.nats("numbers", server.servers)
        .map(lambda event: {**event, "key": event["n"] % 5})
        .key_by("key")
        .reduce({"count": "count"})
        .to(streams.nats("counts", server.servers))
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "counting"), seed=11)

    def at():
        feeds = [feed for task in simulation.tasks.values() for feed in task._wired.feeds]
        return max((n for feed in feeds for n in feed._reader.positions().values()), default=0)

    async def work():
        await publish(server, "numbers", 500)
        for crash in range(5):
            await simulation.start(simulation.rng.choice((1, 2)))
            for _ in range(200 if crash else 60):
                await simulation.read()
                await asyncio.sleep(0.005)
            await simulation.checkpoint(commit=crash % 2 == 1)
            if crash == 2:
                await publish(server, "numbers", 300)
            for task in simulation.tasks.values():
                await task._wired.close()
            await simulation.crash()
        await simulation.start(1)
        while at() < 800:
            await simulation.read()
            await asyncio.sleep(0.005)
        await simulation.checkpoint()
        for task in simulation.tasks.values():
            await task._wired.close()
        return await everything(server, "counts")

    found = asyncio.run(work())
    assert Counter(e["n"] for e in found) == Counter([*range(500), *range(300)])
    assert {(e["key"], e["count"]) for e in found} == {
        (key, count) for key in range(5) for count in range(1, 161)
    }


def test_a_subject_that_is_not_there_and_a_server_that_is_not_are_told(server):
    with pytest.raises(NotFound, match="subject 'nowhere'"):
        asyncio.run(Nats("nowhere", server.servers).reader(Place("test", 0, 1, {})))
    with pytest.raises(StorageUnavailable, match="NATS at"):
        asyncio.run(Nats("x", "nats://127.0.0.1:1").reader(Place("test", 0, 1, {})))
