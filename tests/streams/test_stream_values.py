"""Batches, state and files as values: what goes in comes out, and what cannot is told."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import CallError, Damaged, UnsupportedState
from eksml.streams.batch import Batch, concat
from eksml.streams.operators.aggregates import Accumulator, parse
from eksml.streams.operators.keyed import KeyedState
from eksml.streams.operators.panes import Panes
from eksml.streams.snapshots import Chain, load, store
from eksml.streams.sources.json_lines import decode
from eksml.streams.windows import sliding, tumbling

rows = st.lists(st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "b": st.text()}))


@given(rows)
def test_a_batch_is_the_same_after_its_way_to_another_process(events):
    batch = Batch(np.arange(len(events)), rows=events, groups=np.zeros(len(events), np.uint8))
    there = pickle.loads(pickle.dumps(batch, protocol=5))
    names = {name for event in events for name in event}
    assert there.times.tolist() == batch.times.tolist()
    assert there.rows == [{name: e.get(name) for name in names} for e in events]
    assert there.groups.tolist() == batch.groups.tolist()


def test_batches_of_different_columns_become_one_with_nulls():
    one = Batch(np.array([1]), columns=pa.RecordBatch.from_pylist([{"a": 1}]))
    other = Batch(np.array([2]), columns=pa.RecordBatch.from_pylist([{"a": 1.5, "b": "x"}]))
    assert concat([one, other]).rows == [{"a": 1.0, "b": None}, {"a": 1.5, "b": "x"}]


def test_a_column_of_mixed_values_is_told_by_its_name():
    with pytest.raises(CallError, match="column 'a'"):
        _ = Batch(np.arange(2), rows=[{"a": 1}, {"a": "x"}]).columns


operations = st.lists(
    st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9), st.booleans()), max_size=40
)


@given(operations)
def test_state_is_what_its_snapshots_say_whenever_they_were_taken(steps):
    state, tables = KeyedState("step"), []
    for key, value, snap in steps:
        if value is not None:
            state.set((key,), {"v": value}, ord(key))
        elif state.get((key,)) is not None:
            state.delete((key,))
        if snap:
            tables += state.snapshot(full=False)
    tables += state.snapshot(full=False)
    again = KeyedState("step")
    again.restore(tables)
    assert dict(again.items()) == dict(state.items())
    full = KeyedState("step")
    full.restore(state.snapshot(full=True))
    assert dict(full.items()) == dict(state.items())


def test_state_that_is_not_json_is_refused_with_step_and_key():
    state = KeyedState("counting")
    state.set(("x",), {"when": object()}, 0)
    with pytest.raises(UnsupportedState, match=r"state of counting for the key \('x',\)"):
        state.snapshot(full=False)


def test_a_chain_gives_back_the_groups_that_are_asked_for_and_refuses_damage(root):
    chain = Chain([])
    for first in (0, 10):
        groups = pa.array(range(first, first + 10), pa.uint8())
        table = pa.table({"__group": groups, "n": list(range(first, first + 10))})
        chain.add(store(root, "state", table), table.num_rows)
    found = [n for t in load(root, chain.as_json(), range(5, 12)) for n in t["n"].to_pylist()]
    assert found == [5, 6, 7, 8, 9, 10, 11]
    place = root / chain.parts[1]["file"]
    data = bytearray(place.read_bytes())
    data[len(data) // 2] ^= 1
    place.write_bytes(data)
    with pytest.raises(Damaged):
        list(load(root, chain.as_json(), None))


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=30), st.integers(1, 20))
def test_every_window_that_holds_an_event_comes_due_once_and_in_order(times, step):
    window, given_out = sliding("12us", "4us"), []
    panes = Panes(window)
    of = panes.of(np.array(times))
    panes.add(pa.table({"__pane": of, "__group": [0] * len(times)}))
    for watermark in range(-150, 150, step):
        given_out += [span for span, _ in panes.due(watermark)]
    given_out += [span for span, _ in panes.due(2**62)]
    wanted = {span for pane in of.tolist() for span in window.spans_of(pane)}
    assert set(given_out) == wanted
    assert len(given_out) == len(wanted)
    assert [span.end for span in given_out] == sorted(span.end for span in given_out)
    assert panes.num_rows == 0


def test_a_pane_lies_in_as_many_windows_as_slides_fit():
    window = sliding("30s", "10s")
    assert [span.start // 10**6 for span in window.spans_of(0)] == [-20, -10, 0]
    assert len(list(tumbling("10s").spans_of(-10_000_000))) == 1


def test_aggregates_of_nothing_are_none_and_counts_are_zero():
    aggregates = parse({"n": "count", "s": ("x", "sum"), "m": ("x", "mean"), "f": ("x", "first")})
    assert Accumulator(aggregates).results(aggregates) == {"n": 0, "s": None, "m": None, "f": None}


def test_json_texts_are_events_whatever_lines_they_have():
    assert decode(pa.array([b'{"a": 1}', b'{"a": 2, "b": "x"}'])).to_pylist() == [
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
    ]
    assert decode(pa.array([b'{\n "a": 1\n}', b'{"a": 2}'])).to_pylist() == [{"a": 1}, {"a": 2}]
    for wrong in (b'{"a": 1} {"a": 2}', b"[1]", b"", b"nonsense"):
        with pytest.raises(CallError):
            decode(pa.array([b'{"a": 1}', wrong]))
