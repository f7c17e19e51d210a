"""A stream gives what a batch computation of the same events gives: whatever the order of events,
the partitions, the workers, the kills."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulation import Effects, Simulation, Updates

import eksml.streams as streams
from eksml.storage import URI

SECOND = 1_000_000

events = st.lists(
    st.fixed_dictionaries(
        {
            "key": st.sampled_from(["a", "b", "c", "d", "é", ""]),
            "time": st.integers(0, 60),
            "value": st.integers(-5, 5),
        }
    ),
    max_size=40,
)
windows = st.sampled_from(
    [
        streams.tumbling("10s"),
        streams.tumbling("7s"),
        streams.sliding("10s", "5s"),
        streams.sliding("9s", "6s"),
        streams.session("4s"),
    ]
)
law = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Stats:
    """What a user might keep of a window."""

    def __init__(self):
        self.values = []

    def add(self, event):
        self.values.append(event["value"])

    def merge(self, other):
        self.values += other.values

    def result(self):
        values = self.values
        return {
            "total": sum(values),
            "least": min(values),
            "mean": sum(values) / len(values),
            "events": len(values),
        }


MEMORIES = (None, 1, 3_000)
"""For state: as much as it needs, nothing beyond the batch at hand, room for some keys."""

BUILT_IN = {
    "total": ("value", "sum"),
    "least": ("value", "min"),
    "mean": ("value", "mean"),
    "events": "count",
}


def batch_windows(events, window):
    """The same, computed from all events at once; ``{(key, start, end): values}``."""
    found = defaultdict(list)
    by_key = defaultdict(list)
    for event in events:
        by_key[event["key"]].append(event)
    for key, mine in by_key.items():
        if isinstance(window, type(streams.session("1s"))):
            gap = window.gap_us
            mine = sorted(mine, key=lambda event: event["time"])
            run: list[dict] = []
            for event in [*mine, None]:
                if run and (event is None or (event["time"] - run[-1]["time"]) * SECOND >= gap):
                    span = run[0]["time"] * SECOND, run[-1]["time"] * SECOND + gap
                    found[(key, *span)] = [each["value"] for each in run]
                    run = []
                if event is not None:
                    run.append(event)
            continue
        for event in mine:
            for start in range(-2 * window.size_us, 61 * SECOND, window.slide_us):
                start -= start % window.slide_us
                if start <= event["time"] * SECOND < start + window.size_us:
                    found[(key, start, start + window.size_us)].append(event["value"])
    return {place: (sum(v), min(v), sum(v) / len(v), len(v)) for place, v in found.items() if v}


def micros(moment) -> int:
    return round(moment.timestamp() * SECOND)


def told(effects):
    """The same of what a stream gave; every window of a key once."""
    found = {}
    for e in effects.events:
        place = e["key"], micros(e["window_start"]), micros(e["window_end"])
        assert place not in found, "a window was given twice"
        found[place] = e["total"], e["least"], e["mean"], e["events"]
    return found


def source(splits, delay="100s"):
    def generate(split, start):
        yield from splits[split][start:]

    return streams.generator(generate, splits=len(splits)).with_time("time", delay=delay)


def trickle(splits, delay):
    """Events that come one by one, so that time goes on between them and some are late."""

    def generate(split, start):
        for event in splits[split][start:]:
            yield pa.Table.from_pylist([event])

    return streams.generator(generate, splits=len(splits)).with_time("time", delay=delay)


async def disturbed(simulation, rng, workers):
    """Run to the end, with crashes and checkpoints wherever they fall."""
    await simulation.start(rng.choice(workers))
    for _ in range(rng.randrange(12)):
        for _ in range(rng.randrange(4)):
            await simulation.read()
        what = rng.random()
        if what < 0.35:
            await simulation.checkpoint()
        elif what < 0.7:
            if what < 0.45:
                await simulation.half_checkpoint()
            elif what < 0.55:
                await simulation.checkpoint(commit=False)
            await simulation.crash()
            await simulation.start(rng.choice(workers))
    await simulation.finish()


def run(graph, folder, seed, workers=(1, 2, 3)):
    memory = MEMORIES[seed % len(MEMORIES)]
    place = URI.parse(folder / secrets.token_hex(4))
    simulation = Simulation(graph, place, seed=seed, state_memory=memory)
    asyncio.run(disturbed(simulation, simulation.rng, workers))
    return simulation


@law
@given(
    splits=st.lists(events, min_size=1, max_size=4),
    window=windows,
    aggregate=st.sampled_from([BUILT_IN, Stats]),
    seed=st.integers(0, 2**32),
)
def test_windows_equal_a_batch_computation(tmp_path, splits, window, aggregate, seed):
    effects = Effects()
    graph = (
        source(splits)
        .key_by("key")
        .window(window, aggregate)
        .to(streams.call(effects, each_epoch=True))
    )
    run(graph, tmp_path, seed)
    assert told(effects) == batch_windows([e for split in splits for e in split], window)


@law
@given(splits=st.lists(events, min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_each_event_is_in_its_window_or_late_and_never_both(tmp_path, splits, seed):
    on_time, late = Effects(), Effects()
    windowed = trickle(splits, delay="3s").key_by("key").window(streams.tumbling("5s"), BUILT_IN)
    graph = [
        windowed.to(streams.call(on_time, each_epoch=True)),
        windowed.side("late").to(streams.call(late, each_epoch=True)),
    ]
    run(graph, tmp_path, seed)
    told(on_time)
    everything = [event for split in splits for event in split]
    counted = sum(event["events"] for event in on_time.events) + len(late.events)
    assert counted == len(everything)
    total = sum(e["total"] for e in on_time.events) + sum(e["value"] for e in late.events)
    assert total == sum(event["value"] for event in everything)


def last_told(updates):
    """The last result of each window of a key."""
    found = {}
    for e in updates:
        place = e["key"], micros(e["window_start"]), micros(e["window_end"])
        found[place] = e["total"], e["least"], e["mean"], e["events"]
    return found


@law
@given(
    splits=st.lists(events, min_size=1, max_size=4),
    window=windows.filter(lambda window: not isinstance(window, type(streams.session("1s")))),
    aggregate=st.sampled_from([BUILT_IN, Stats]),
    seed=st.integers(0, 2**32),
)
def test_windows_that_take_late_events_end_up_equal_to_a_batch_computation(
    tmp_path, splits, window, aggregate, seed
):
    updates = Updates()
    graph = (
        trickle(splits, delay="0s")
        .key_by("key")
        .window(window, aggregate, allowed_lateness="200s")
        .to(streams.call(updates, each_epoch=True))
    )
    run(graph, tmp_path, seed)
    wanted = batch_windows([e for split in splits for e in split], window)
    assert last_told(updates.in_order()) == wanted


@law
@given(
    splits=st.lists(events, min_size=1, max_size=3),
    aggregate=st.sampled_from([BUILT_IN, Stats]),
    seed=st.integers(0, 2**32),
)
def test_each_event_is_in_an_update_of_its_window_or_late_and_never_both(
    tmp_path, splits, aggregate, seed
):
    updates, late = Updates(), Effects()
    windowed = (
        trickle(splits, delay="1s")
        .key_by("key")
        .window(streams.tumbling("5s"), aggregate, allowed_lateness="7s")
    )
    graph = [
        windowed.to(streams.call(updates, each_epoch=True)),
        windowed.side("late").to(streams.call(late, each_epoch=True)),
    ]
    run(graph, tmp_path, seed)
    everything = [event for split in splits for event in split]
    found = last_told(updates.in_order()).values()
    assert sum(count for *_, count in found) + len(late.events) == len(everything)
    total = sum(total for total, *_ in found) + sum(event["value"] for event in late.events)
    assert total == sum(event["value"] for event in everything)


@law
@given(
    splits=st.lists(events, min_size=1, max_size=3),
    by_function=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_running_state_counts_each_event_once(tmp_path, splits, by_function, seed):
    effects = Effects()

    def add(state, event):
        return {
            "total": state.get("total", 0) + event["value"],
            "events": state.get("events", 0) + 1,
        }

    keyed = source(splits).map(lambda event: {**event, "twice": 2 * event["value"]}).key_by("key")
    reduced = (
        keyed.reduce(add)
        if by_function
        else keyed.reduce({"total": ("value", "sum"), "events": "count"})
    )
    run(reduced.to(streams.call(effects, each_epoch=True)), tmp_path, seed)
    assert len(effects.events) == sum(len(split) for split in splits)
    by_key = defaultdict(list)
    for event in (event for split in splits for event in split):
        by_key[event["key"]].append(event["value"])
    last = {}
    for event in effects.events:
        assert event["twice"] == 2 * event["value"]
        if event["events"] > last.get(event["key"], (0, 0))[0]:
            last[event["key"]] = event["events"], event["total"]
    assert last == {key: (len(values), sum(values)) for key, values in by_key.items()}


@law
@given(left=events, right=events, seed=st.integers(0, 2**32))
def test_a_join_gives_each_pair_of_a_window_once(tmp_path, left, right, seed):
    effects = Effects()
    graph = (
        source([left])
        .key_by("key")
        .join(source([right]).key_by("key"), streams.tumbling("10s"))
        .to(streams.call(effects, each_epoch=True))
    )
    run(graph, tmp_path, seed)
    pairs = sorted(
        (a["key"], a["value"], b["value"], a["time"], b["time"])
        for a in left
        for b in right
        if a["key"] == b["key"] and a["time"] // 10 == b["time"] // 10
    )
    given_out = sorted(
        (e["key"], e["value"], e["value_right"], e["time"], e["time_right"]) for e in effects.events
    )
    assert given_out == pairs


@law
@given(splits=st.lists(events, min_size=1, max_size=3), seed=st.integers(0, 2**32))
def test_timers_ring_once_for_each_key_and_moment(tmp_path, splits, seed):
    effects = Effects()

    def note(event, state, timing):
        state["seen"] = state.get("seen", 0) + 1
        timing.timer((timing.time_us // (10 * SECOND) + 1) * 10 * SECOND)

    def ring(state, timing):
        yield {"key": timing.key["key"], "at": timing.time_us // SECOND, "seen": state["seen"]}

    graph = (
        source(splits)
        .key_by("key")
        .process(note, on_timer=ring)
        .to(streams.call(effects, each_epoch=True))
    )
    run(graph, tmp_path, seed)
    everything = [event for split in splits for event in split]
    wanted = {(event["key"], (event["time"] // 10 + 1) * 10) for event in everything}
    assert sorted((e["key"], e["at"]) for e in effects.events) == sorted(wanted)


@law
@given(
    splits=st.lists(events, min_size=1, max_size=3),
    ordered=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_inference_and_union_and_side_outputs_lose_and_double_nothing(
    tmp_path, splits, ordered, seed
):
    effects, sides = Effects(), Effects()

    def fan_out(event):
        yield event
        if event["value"] > 3:
            yield streams.Side("large", event)

    base = source(splits)
    fanned = base.flat_map(fan_out)
    answered = fanned.infer(
        lambda columns: {**columns, "answer": columns["value"] * 10},
        batch=3,
        wait="1ms",
        ordered=ordered,
    )
    graph = [
        answered.union(base.filter(lambda event: event["value"] < 0)).to(
            streams.call(effects, each_epoch=True)
        ),
        fanned.side("large").to(streams.call(sides, each_epoch=True)),
    ]
    run(graph, tmp_path, seed)
    everything = [event for split in splits for event in split]
    answers = [event for event in effects.events if event.get("answer") is not None]
    assert sorted(e["value"] for e in answers) == sorted(e["value"] for e in everything)
    assert all(event["answer"] == 10 * event["value"] for event in answers)
    negative = sum(event["value"] < 0 for event in everything)
    assert len(effects.events) == len(everything) + negative
    assert len(sides.events) == sum(event["value"] > 3 for event in everything)


def test_files_in_s3_go_through_a_stream_whose_state_is_in_s3(bucket, tmp_path):
    data = pa.table({"key": [n % 3 for n in range(50_000)], "number": list(range(50_000))})
    local = tmp_path / "in.parquet"
    for index in range(4):
        pq.write_table(data.slice(index * 12_500, 12_500), local, row_group_size=3000)
        (bucket / f"in/{index}.parquet").write_bytes(local.read_bytes())
    graph = (
        streams.files(bucket / "in")
        .key_by("key")
        .reduce({"total": ("number", "sum")})
        .to(streams.files(bucket / "out"))
    )
    simulation = Simulation(graph, bucket / "run", seed=3)
    asyncio.run(disturbed(simulation, simulation.rng, (1, 2, 3)))
    assert simulation.incarnation > 3
    for stat in (bucket / "out").list():
        (tmp_path / stat.uri.name).write_bytes(stat.uri.read_bytes())
    rows = pq.read_table(sorted(tmp_path.glob("*to_files*"))).to_pandas()
    assert sorted(rows.number) == list(range(50_000))
    assert rows.groupby("key").total.max().to_dict() == {
        key: sum(range(key, 50_000, 3)) for key in range(3)
    }
