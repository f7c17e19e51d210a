"""Running aggregates in columns are those that a loop over the events gives."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from eksml.storage import URI
from eksml.streams.batch import Batch
from eksml.streams.keys import groups_of
from eksml.streams.operators.aggregates import FUNCTIONS, parse
from eksml.streams.operators.base import Context
from eksml.streams.operators.running import RunningAggregates

AGGREGATES = {name: "count" if name == "count" else ("value", name) for name in FUNCTIONS}
numbers = st.lists(st.integers(-100, 100), min_size=1) | st.lists(
    st.floats(-100, 100, width=16), min_size=1
)
batches = st.lists(numbers, min_size=1, max_size=4)


def operator(emitted, keys=("key",)):
    async def emit(batch, port=""):
        emitted.append(batch)

    async def nothing(*given):
        raise AssertionError(given)

    context = Context(
        "reduce", 0, 1, keys, URI.parse("/"), emit, nothing, nothing, asyncio.Lock(), nothing
    )
    return RunningAggregates(parse(AGGREGATES), context)


def keyed(columns, names=("key",)):
    columns = pa.RecordBatch.from_pydict(columns)
    groups = groups_of([columns.column(name) for name in names])
    return Batch(np.zeros(columns.num_rows, np.int64), columns=columns, groups=groups)


def by_loop(events):
    """What each event's key has seen, the event included."""
    seen = {}
    for key, value in events:
        values = seen.setdefault(key, [])
        values.append(value)
        total = sum(values)
        yield {
            "count": len(values),
            "sum": total,
            "min": min(values),
            "max": max(values),
            "mean": total / len(values),
            "first": values[0],
            "last": values[-1],
        }


@given(batches, st.integers(1, 5), st.booleans())
def test_running_aggregates_are_those_of_a_loop_over_the_events(batches, num_keys, restarts):
    emitted, events, number = [], [], 0
    running = operator(emitted)
    for values in batches:
        keys = [f"k{(number + index) * 7 % num_keys}" for index in range(len(values))]
        number += len(values)
        events += zip(keys, values, strict=True)
        asyncio.run(running.process(keyed({"key": keys, "value": values}), 0))
        if restarts:
            saved, running = list(running.snapshot(full=True)), operator(emitted)
            running.restore(saved, 0)
    rows = [row for batch in emitted for row in batch.rows]
    for row, expected in zip(rows, by_loop(events), strict=True):
        for name, value in expected.items():
            assert math.isclose(row[name], value, abs_tol=1e-9), (name, row, expected)


def test_a_key_that_is_in_a_dictionary_and_in_no_event_has_no_state():
    emitted = []
    running = operator(emitted)
    keys = pa.array(["a", "b", "c", "a"]).dictionary_encode().take(pa.array([2, 0, 3]))
    asyncio.run(running.process(keyed({"key": keys, "value": [1, 2, 3]}), 0))
    assert [row["sum"] for row in emitted[0].rows] == [1, 2, 5]
    assert running.size() == 2


def test_keys_of_several_columns_are_told_apart():
    emitted, names = [], ("shop", "day")
    running = operator(emitted, names)
    shops, days = ["a", "a", "b", "a"], [1, 2, 1, 1]
    events = {"shop": shops, "day": days, "value": [1, 2, 3, 4]}
    asyncio.run(running.process(keyed(events, names), 0))
    assert [row["sum"] for row in emitted[0].rows] == [1, 2, 3, 5]
