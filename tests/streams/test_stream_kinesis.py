"""Kinesis at both ends of a stream: shards that are split and merged, records once, in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import Effects, Simulation

import eksml.streams as streams
from eksml.errors import MissingExtra, NotFound, StorageUnavailable
from eksml.storage import URI
from eksml.streams.endpoints.kinesis import Kinesis
from eksml.streams.sinks.kinesis import _parts
from eksml.streams.sources import shards
from eksml.streams.sources.base import Place
from eksml.testing import KinesisServer

# Which shards are whose, without a server


@st.composite
def histories(draw):
    """Shards with their parents, after splits and merges at random; and some that are done."""
    parents = {f"s{n:02}": [] for n in range(draw(st.integers(1, 4)))}
    open_ = list(parents)
    for _ in range(draw(st.integers(0, 6))):
        if len(open_) > 1 and draw(st.booleans()):
            pair = [open_.pop(draw(st.integers(0, len(open_) - 1))) for _ in range(2)]
            children = [pair]
        else:
            one = open_.pop(draw(st.integers(0, len(open_) - 1)))
            children = [[one], [one]]
        for child in children:
            name = f"s{len(parents):02}"
            parents[name] = child
            open_.append(name)
    done: set[str] = set()
    for name, before in parents.items():
        if name not in open_ and set(before) <= done and draw(st.booleans()):
            done.add(name)
    return parents, done


@given(histories(), st.integers(1, 4))
def test_every_shard_has_one_owner_who_reads_it_after_its_parents(history, parallelism):
    parents, done = history
    shares = [shards.share(parents, done, index, parallelism) for index in range(parallelism)]
    assert Counter(name for share in shares for name in share) == Counter(parents.keys() - done)
    for share in shares:
        read = set(done)
        while ready := shards.readable(share, parents, read):
            assert all(set(parents[name]) <= read for name in ready)
            read |= set(ready)
        assert read == share | done


def test_a_child_of_shards_of_two_tasks_is_nobodys():
    parents = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["c"]}
    assert shards.born({"a"}, parents) == ({"c", "e"}, {"d"})
    assert shards.born({"a", "b"}, parents) == ({"c", "d", "e"}, set())


def test_calls_hold_no_more_records_and_bytes_than_kinesis_takes():
    records = [{"Data": b"x" * 1_000_000, "PartitionKey": "k"} for _ in range(9)]
    assert [len(part) for part in _parts(records)] == [4, 4, 1]
    assert [len(part) for part in _parts([{"Data": b"", "PartitionKey": "k"}] * 1001)] == [
        *(500, 500, 1)
    ]


# On a server


@pytest.fixture(scope="module")
def server():
    try:
        found = KinesisServer()
        found._command()
    except MissingExtra as error:
        pytest.skip(str(error))
    with found:
        yield found


@pytest.fixture(autouse=True)
def credentials(request, monkeypatch):
    if "server" in request.fixturenames:
        for name, value in request.getfixturevalue("server").env().items():
            monkeypatch.setenv(name, value)


def put(server, stream, numbers):
    records = [
        {"Data": json.dumps({"n": n, "key": n % 7}).encode(), "PartitionKey": str(n % 7)}
        for n in numbers
    ]
    assert server.client().put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


def counted(stream, effects):
    return (
        streams.kinesis(stream)
        .key_by("key")
        .reduce({"count": "count"})
        .to(streams.call(effects, each_epoch=True))
    )


async def read_until(simulation, condition):
    for _ in range(4000):
        if condition():
            return
        await simulation.read()
        await asyncio.sleep(0.005)
    raise AssertionError("the records did not come")


def given_so_far(simulation):
    """Records that were read since the tasks began."""
    runners = [task._wired._by_name["kinesis"] for task in simulation.sources]
    return sum(runner.counts.events_in for runner in runners)


def assert_each_once_and_in_order(effects, count):
    assert Counter(event["n"] for event in effects.events) == Counter(range(count))
    by_key = defaultdict(list)
    for event in sorted(effects.events, key=lambda event: event["count"]):
        by_key[event["key"]].append(event["n"])
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


def test_records_come_once_and_in_order_through_splits_merges_and_crashes(server, tmp_path):
    server.make_stream("numbers", 2)
    effects = Effects()
    simulation = Simulation(counted("numbers", effects), URI.parse(tmp_path / "run"), seed=3)

    async def work():
        put(server, "numbers", range(100))
        await simulation.start(1)
        await read_until(simulation, lambda: given_so_far(simulation) >= 60)
        await simulation.checkpoint(commit=False)
        server.split("numbers", "shardId-000000000000")  # into 2 and 3
        put(server, "numbers", range(100, 200))
        await simulation.crash()
        await simulation.start(2)
        await read_until(simulation, lambda: given_so_far(simulation) >= 50)
        await simulation.half_checkpoint()
        server.merge("numbers", "shardId-000000000002", "shardId-000000000003")  # into 4
        put(server, "numbers", range(200, 300))
        await simulation.crash()
        await simulation.start(1)
        await read_until(simulation, lambda: len(effects.events) + given_so_far(simulation) == 300)
        await simulation.checkpoint()

    asyncio.run(work())
    assert_each_once_and_in_order(effects, 300)


def test_a_merge_of_shards_of_two_tasks_has_them_begin_again_and_loses_nothing(server, tmp_path):
    server.make_stream("merged", 2)
    effects = Effects()
    simulation = Simulation(counted("merged", effects), URI.parse(tmp_path / "run"))

    async def work():
        put(server, "merged", range(50))
        await simulation.start(2)
        await read_until(simulation, lambda: given_so_far(simulation) == 50)
        await simulation.checkpoint()
        put(server, "merged", range(50, 80))
        server.merge("merged", "shardId-000000000000", "shardId-000000000001")
        put(server, "merged", range(80, 120))
        with pytest.raises(StorageUnavailable, match="begin again"):
            await read_until(simulation, lambda: False)
        await simulation.crash()
        await simulation.start(2)
        await read_until(simulation, lambda: given_so_far(simulation) == 70)
        await simulation.checkpoint()

    asyncio.run(work())
    assert_each_once_and_in_order(effects, 120)


def test_events_are_put_when_their_checkpoint_stands(server, tmp_path):
    server.make_stream("out", 2)
    graph = streams.items([{"n": n, "key": n % 3} for n in range(600)]).to(
        streams.kinesis("out", key="key")
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "run"))

    def found():
        client, values = server.client(), []
        for shard in client.list_shards(StreamName="out")["Shards"]:
            place = {"StreamName": "out", "ShardId": shard["ShardId"]}
            start = client.get_shard_iterator(**place, ShardIteratorType="TRIM_HORIZON")
            records = client.get_records(ShardIterator=start["ShardIterator"])["Records"]
            values += [json.loads(record["Data"])["n"] for record in records]
        return sorted(values)

    async def work():
        await simulation.start(1)
        while not await simulation.read():
            pass
        await simulation.checkpoint(commit=False)
        assert found() == []
        await simulation.crash()
        await simulation.start(1)  # takes up what was to be put
        await simulation.finish()

    asyncio.run(work())
    assert found() == list(range(600))


def test_a_stream_begins_where_it_shall_and_loses_nothing_that_comes_then(server, tmp_path):
    server.make_stream("begun", 2)
    put(server, "begun", range(1000, 1020))
    time.sleep(0.05)
    moment = datetime.now(UTC)

    def from_(start, effects):
        graph = streams.kinesis("begun", start=start).to(streams.call(effects, each_epoch=True))
        return Simulation(graph, URI.parse(tmp_path / str(start)))

    latest, since = Effects(), Effects()

    async def work():
        simulation = from_("latest", latest)
        await simulation.start(1)
        await simulation.read()
        await simulation.checkpoint()
        await simulation.crash()
        put(server, "begun", range(50))  # while nobody is there
        other = from_(moment, since)
        await other.start(1)
        await read_until(other, lambda: given_so_far(other) >= 50)
        await other.checkpoint()
        server.split("begun", "shardId-000000000000")
        put(server, "begun", range(50, 100))
        await simulation.start(2)
        await read_until(simulation, lambda: given_so_far(simulation) >= 100)
        await simulation.checkpoint()

    asyncio.run(work())
    assert Counter(event["n"] for event in since.events) == Counter(range(50))
    assert Counter(event["n"] for event in latest.events) == Counter(range(100))


@pytest.mark.parametrize("start", ["newest", datetime(2026, 1, 1), 3])
def test_a_start_that_is_no_place_is_refused(start):
    [problem] = Kinesis("numbers", start=start).problems()
    assert problem.path == "start"
    assert "time zone" in problem.remedy


def test_a_stream_that_is_not_there_is_told(server):
    with pytest.raises(NotFound, match="no stream 'nowhere' of Kinesis"):
        asyncio.run(Kinesis("nowhere").reader(Place("test", 0, 1, {})))
