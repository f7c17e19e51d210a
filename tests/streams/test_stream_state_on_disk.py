"""State that has no room in memory is the same on the disk, through checkpoints and kills."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation import Effects, Simulation, Updates

import eksml.streams as streams
from eksml.errors import InvalidSpec, StorageUnavailable, UnsupportedState
from eksml.storage import URI
from eksml.streams import checkpoints
from eksml.streams.operators.cold import ColdKeys, Row
from eksml.streams.operators.key_text import key_of, text_of
from eksml.streams.operators.keyed import KeyedState
from eksml.streams.operators.mapped import mapped

KEYS, EVENTS = 200, 2_000
LITTLE = 20_000
"""Bytes: room for a few tens of keys."""


def source(delay):
    """Events of many keys, out of order by up to 8 seconds, a few at a time."""
    rng = random.Random(5)
    events = [
        {
            "key": f"k{rng.randrange(KEYS)}",
            "value": rng.randrange(100),
            "at": number // 15 + rng.randrange(8),
        }
        for number in range(EVENTS)
    ]

    def generate(split, start):
        for first in range(start, EVENTS, 25):
            yield pa.Table.from_pylist(events[first : first + 25])

    return streams.generator(generate).with_time("at", delay=delay)


class Total:
    """What a user might keep of a window."""

    def __init__(self):
        self.total, self.events = 0, 0

    def add(self, event):
        self.total += event["value"]
        self.events += 1

    def merge(self, other):
        self.total += other.total
        self.events += other.events

    def result(self):
        return {"total": self.total, "events": self.events}


def add(state, event):
    return {"total": state.get("total", 0) + event["value"], "events": state.get("events", 0) + 1}


def remember(event, state, timing):
    state.setdefault("values", []).append([timing.time_us, event["value"]])
    timing.timer(timing.time_us + 30_000_000)


def tell(state, timing):
    state["values"] = [each for each in state["values"] if each[0] > timing.time_us - 60_000_000]
    known = [value for time, value in state["values"] if time <= timing.time_us]
    yield {**timing.key, "at": timing.time_us, "sum": sum(known)}


BUILT_IN = {"total": ("value", "sum"), "events": "count", "most": ("value", "max")}
KINDS = {
    "reduce by a function": lambda keyed: keyed.reduce(add),
    "built-in aggregates": lambda keyed: keyed.reduce({**BUILT_IN, "mean": ("value", "mean")}),
    "process with timers": lambda keyed: keyed.process(remember, on_timer=tell),
    "session windows": lambda keyed: keyed.window(streams.session("4s"), BUILT_IN),
    "sliding windows": lambda keyed: keyed.window(streams.sliding("20s", "5s"), BUILT_IN),
    "windows of a class": lambda keyed: keyed.window(streams.sliding("20s", "5s"), Total),
    "windows that take late events": lambda keyed: keyed.window(
        streams.tumbling("10s"), Total, allowed_lateness="10s"
    ),
    "join": lambda keyed: keyed.join(
        keyed.filter(lambda e: e["value"] < 20), streams.tumbling("9s")
    ),
}


async def undisturbed(simulation):
    await simulation.start(1)
    await simulation.finish()


async def disturbed(simulation):
    rng = simulation.rng
    await simulation.start(2)
    for workers in (1, 3, 2, 1):
        for _ in range(rng.randrange(10, 25)):
            await simulation.read()
        await simulation.checkpoint(commit=rng.random() < 0.5)
        for _ in range(rng.randrange(10)):
            await simulation.read()
        await simulation.half_checkpoint()
        await simulation.crash()
        await simulation.start(workers)
    await simulation.finish()


def outcome(events):
    return sorted(repr(sorted(event.items())) for event in events)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_with_little_memory_gives_the_same_through_kills_and_rescales(kind, tmp_path):
    def run(how, memory, folder):
        effects = Updates() if "late" in kind else Effects()
        delay = "1s" if "late" in kind else "8s"
        keyed = source(delay).key_by("key")
        graph = KINDS[kind](keyed).to(streams.call(effects, each_epoch=True))
        place = URI.parse(tmp_path / folder)
        simulation = Simulation(graph, place, seed=7, state_memory=memory)
        asyncio.run(how(simulation))
        held = [o.held() for t in simulation.tasks.values() for o in t._wired.operators()]
        return outcome(last(effects) if "late" in kind else effects.events), held

    whole, in_memory = run(undisturbed, None, "whole")
    little, on_disk = run(disturbed, LITTLE, "little")
    assert little == whole
    assert sum(each.disk for each in in_memory) == 0
    if kind.startswith(("reduce", "built", "process")):  # windows are over by now
        assert sum(each.disk for each in on_disk) > 0
    assert all(each.memory < 2 * LITTLE for each in on_disk)


def last(updates):
    """The last result of each window of a key."""
    found = {(e["key"], e["window_start"]): e for e in updates.in_order()}
    return found.values()


def test_a_checkpoint_holds_only_what_changed_though_most_lies_on_the_disk(tmp_path):
    def count(split, start):
        for number in range(start, 12_100):
            yield {"key": number % 12_000}

    graph = (
        streams.generator(count)
        .key_by("key")
        .process(lambda event, state, timing: state.update(n=1), name="count")
        .to(streams.call(lambda events: None))
    )
    simulation = Simulation(graph, URI.parse(tmp_path / "run"), state_memory=LITTLE)

    async def work():
        await simulation.start(1)
        [task] = simulation.tasks.values()
        operator = task._wired._by_name["count"].operator
        while task._wired._by_name["count"].counts.events_in < 12_000:
            await simulation.read()
        await simulation.checkpoint()
        await simulation.finish()
        assert operator.size() == 12_000
        assert operator.held().disk > 0
        [chain] = checkpoints.newest(simulation.run)["state"]["count"]
        assert chain["rows"] <= 12_000 + 200

    asyncio.run(work())


keys = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.text(),
    st.binary(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.datetimes(),
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.astimezone(ZoneInfo("Europe/Berlin"))
    ),
)


@given(st.lists(st.tuples(keys, keys)))
def test_keys_come_back_from_the_disk_as_they_were(given_keys):
    for key in given_keys:
        again = key_of(text_of(key))
        assert again == key
        assert [type(value) for value in again] == [type(value) for value in key]


def test_keys_that_have_no_text_are_refused_with_a_way_out():
    with pytest.raises(UnsupportedState, match=r"complex.*state_memory"):
        text_of((1j,))


places = st.sampled_from([("a",), ("b",), ("c",), ("d",)])
steps = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "evict", "due", "snapshot", "full"]),
        places,
        st.integers(0, 9),
    ),
    max_size=60,
)


@given(steps)
def test_a_store_that_loses_nothing_is_what_its_snapshots_say(given_steps):
    """Whatever lies in memory and whatever on the disk."""
    state = KeyedState("step", due=lambda key, value: value["v"])
    model, tables = {}, []
    for what, key, value in given_steps:
        state.bring([key])
        if what == "set":
            model[key] = {"v": value}
            state.set(key, model[key], ord(key[0]))
        elif what == "delete" and key in model:
            del model[key]
            state.delete(key)
        elif what == "evict" and key in state:
            state.evict([key])
        elif what == "due":
            for group in state.groups_due(value):
                brought = state.bring_due(group, value)
                assert all(model[each]["v"] <= value for each in brought)
            assert not state.groups_due(value)
        elif what in ("snapshot", "full"):
            tables = ([] if what == "full" else tables) + list(state.snapshot(what == "full"))
    tables += state.snapshot(full=False)
    again = KeyedState("step")
    again.restore(tables)
    assert dict(again.items()) == model
    assert len(state) == len(model)


def test_what_lies_on_the_disk_has_no_name_that_a_kill_could_leave(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cold = ColdKeys()
    cold.put([Row((n,), n % 128, "x" * 1000) for n in range(40_000)])  # more than its cache
    table = mapped([pa.table({"n": range(1000)})], pa.schema([("n", pa.int64())]))
    assert os.listdir(tmp_path) == []
    assert table.column("n").to_pylist() == list(range(1000))
    assert [row.key for row in cold.take([(39_999,), (40_000,)])] == [(39_999,)]


def test_a_disk_that_takes_nothing_is_told_with_what_can_be_done(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(StorageUnavailable, match=r"/nowhere.*state_memory"):
        mapped([pa.table({"n": [1]})], pa.schema([("n", pa.int64())]))


@pytest.mark.parametrize("memory", ["lots", 0, -1, True, 1.5, "5 apples"])
def test_a_limit_that_is_none_is_refused(memory, tmp_path):
    graph = streams.items([{"a": 1}]).to(streams.call(print))
    with pytest.raises(InvalidSpec, match=r"state_memory.*512Mi"):
        streams.stream(graph, storage=tmp_path, state_memory=memory)
