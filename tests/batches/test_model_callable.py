"""A user's own class, function or instance as the model of a batch run."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eksml.batches.blocks import FILE, PLACE
from eksml.batches.models.arrays import to_arrow, to_numpy
from eksml.batches.models.callable import callable_model
from eksml.batches.models.isolation import PROBES, SUSPICIOUS, isolate
from eksml.errors import EngineDied, InvalidSpec

ROWS = pa.table({"x": list(range(10)), "text": [f"row {i}" for i in range(10)]})


class Scale:
    """Multiplies ``x``; counts how often it was made."""

    made = 0

    def __init__(self, factor: float = 2.0) -> None:
        type(self).made += 1
        self.factor = factor

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        return {"y": batch["x"] * self.factor}


def problems_of(target: Any, schema: pa.Schema = ROWS.schema, **options: Any) -> str:
    return "\n".join(str(problem) for problem in callable_model(target, **options).check(schema))


def test_a_class_is_made_once_and_computes_batches_in_the_rows_order() -> None:
    before = Scale.made
    loaded = callable_model(Scale, arguments={"factor": 3.0}, batch_rows=4).load()
    for _ in range(2):
        outcome = loaded.compute(ROWS)
        assert outcome.columns.to_pydict() == {"y": [3.0 * x for x in range(10)]}
        assert outcome.errors == {}
    assert Scale.made == before + 1
    assert loaded.busy()["busy_s"] > 0


def test_a_function_sees_only_its_columns_and_never_those_of_the_engine() -> None:
    seen: list[tuple[set[str], int]] = []

    def look(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        seen.append((set(batch), len(next(iter(batch.values())))))
        return {"n": np.arange(seen[-1][1])}

    table = ROWS.append_column(FILE, pa.array(["f"] * 10)).append_column(PLACE, pa.array(range(10)))
    callable_model(look, batch_rows=4).load().compute(table)
    callable_model(look, columns="text", batch_rows=100).load().compute(table)
    assert seen == [({"x", "text"}, 4), ({"x", "text"}, 4), ({"x", "text"}, 2), ({"text"}, 10)]


def test_an_instance_is_used_as_it_is_and_a_function_gets_its_arguments() -> None:
    assert callable_model(Scale(5.0)).load().compute(ROWS).columns["y"][1].as_py() == 5.0

    def add(batch: dict[str, np.ndarray], amount: int) -> dict[str, Any]:
        return {"y": batch["x"] + amount}

    loaded = callable_model(add, arguments={"amount": 7}).load()
    assert loaded.compute(ROWS).columns["y"].to_pylist() == list(range(7, 17))


def test_bad_rows_become_errors_with_nulls_and_the_others_are_computed() -> None:
    def invert(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        if (batch["x"] % 4 == 3).any():
            raise ValueError(f"cannot take {batch['x'][batch['x'] % 4 == 3][0]}")
        return {"y": batch["x"] + 1, "pair": np.stack([batch["x"], batch["x"]], axis=1)}

    outcome = callable_model(invert, batch_rows=8).load().compute(ROWS)
    assert outcome.errors == {3: "ValueError: cannot take 3", 7: "ValueError: cannot take 7"}
    assert outcome.columns["y"].to_pylist() == [1, 2, 3, None, 5, 6, 7, None, 9, 10]
    assert outcome.columns["pair"].to_pylist()[2:4] == [[2, 2], None]


@given(rows=st.integers(1, 300), data=st.data())
@settings(max_examples=200, deadline=None)
def test_k_bad_rows_are_found_in_2_k_log_n_calls_and_every_good_row_is_computed_once(
    rows: int, data: st.DataObject
) -> None:
    bad = data.draw(st.sets(st.integers(0, rows - 1), max_size=40))
    calls = []

    def compute(start: int, stop: int) -> list[int]:
        calls.append((start, stop))
        if first := sorted(row for row in bad if start <= row < stop):
            raise ValueError(f"row {first[0]}")
        return list(range(start, stop))

    done = isolate(compute, rows)
    assert done.errors == {row: f"ValueError: row {row}" for row in bad}
    computed = [row for start, stop, result in done.results for row in result]
    assert computed == [row for row in range(rows) if row not in bad]
    assert len(calls) <= 1 + 2 * len(bad) * math.ceil(math.log2(max(rows, 2)))


def test_a_function_that_is_broken_for_every_row_is_not_called_for_each() -> None:
    calls = []

    def broken(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        calls.append(len(batch["x"]))
        raise KeyError("label")

    table = pa.table({"x": range(4096)})
    outcome = callable_model(broken, batch_rows=4096).load().compute(table)
    assert outcome.errors == dict.fromkeys(range(4096), "KeyError: 'label'")
    assert len(calls) <= 2 * SUSPICIOUS + math.log2(4096) + 1 + PROBES
    assert outcome.columns.num_rows == 4096
    assert outcome.columns.num_columns == 0


def test_many_bad_rows_that_fail_alike_do_not_take_good_ones_with_them() -> None:
    def picky(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        if (batch["x"] < 100).any():
            raise ValueError("too small")
        return {"y": batch["x"]}

    outcome = callable_model(picky, batch_rows=256).load().compute(pa.table({"x": range(256)}))
    assert sorted(outcome.errors) == list(range(100))


def test_rows_that_all_fail_have_the_columns_of_those_before() -> None:
    def picky(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        if batch["x"][0] < 0:
            raise ValueError("negative")
        return {"y": batch["x"] / 2}

    loaded = callable_model(picky, batch_rows=1).load()
    loaded.compute(ROWS)
    outcome = loaded.compute(pa.table({"x": [-1, -2]}))
    assert outcome.columns.to_pydict() == {"y": [None, None]}
    assert outcome.columns.schema.field("y").type == pa.float64()


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ([1, 2], "returned a list and not a dictionary"),
        (None, "returned a NoneType and not a dictionary"),
        ({"y": [1, 2, 3]}, "Column 'y' of its result has 3 values for 10 rows."),
        ({"y": 1.0}, "a float is no array or list"),
        ({"y": np.float64(1)}, "Column 'y' of its result: TypeError"),
        ({"y": ["a", 1] * 5}, "Column 'y' of its result: Arrow"),
        ({PLACE: [0] * 10}, f"The name '{PLACE}' is eksml's own."),
        ({3: [0] * 10}, "The name 3 of a column is no text."),
        ({}, "Its result has no columns."),
    ],
)
def test_a_result_that_is_no_dictionary_of_columns_stops_the_run(result: Any, told: str) -> None:
    def wrong(batch: dict[str, np.ndarray]) -> Any:
        return result

    with pytest.raises(InvalidSpec) as refused:
        callable_model(wrong).load().compute(ROWS)
    assert told in str(refused.value)
    assert "wrong" in str(refused.value)


def test_all_that_is_wrong_with_a_result_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        callable_model(lambda batch: {"a": [1], "b": 2}).load().compute(ROWS)
    assert len(refused.value.problems) == 2


def test_a_result_with_other_columns_than_before_stops_the_run() -> None:
    loaded = callable_model(lambda batch: {str(batch["x"][0]): batch["x"]}).load()
    loaded.compute(ROWS)
    with pytest.raises(InvalidSpec, match="returned the columns 5, before: 0"):
        loaded.compute(ROWS.slice(5))


def test_a_function_may_use_its_output_array_again() -> None:
    out = np.zeros(2)

    def double(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        np.multiply(batch["x"], 2, out=out)
        return {"y": out}

    columns = callable_model(double, batch_rows=2).load().compute(ROWS).columns
    assert columns["y"].to_pylist() == [2 * x for x in range(10)]


def test_types_of_batches_are_widened_to_one() -> None:
    def varying(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        first = batch["x"][0]
        return {"y": [1] if first == 0 else [2.5] if first == 1 else [None]}

    columns = callable_model(varying, batch_rows=1).load().compute(ROWS.slice(0, 3)).columns
    assert columns["y"].to_pylist() == [1.0, 2.5, None]
    texts = callable_model(lambda b: {"y": ["a"] if b["x"][0] else [1]}, batch_rows=1).load()
    with pytest.raises(InvalidSpec, match="do not go with"):
        texts.compute(ROWS)


def test_a_lost_accelerator_ends_the_worker_and_is_no_error_of_rows() -> None:
    import torch

    def lost(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    with pytest.raises(EngineDied, match="device-side assert"):
        callable_model(lost).load().compute(ROWS)


def test_an_init_that_raises_says_which_class_and_why() -> None:
    class Late:
        def __init__(self) -> None:
            raise OSError("no such file: weights.bin")

        def __call__(self, batch: Any) -> Any: ...

    with pytest.raises(
        InvalidSpec, match=r"Late could not be made: OSError: no such file: weights"
    ):
        callable_model(Late).load()


class NotCallable:
    pass


def test_what_cannot_work_is_told_before_anything_starts() -> None:
    assert problems_of(Scale, columns=["x"]) == ""
    assert "no column 'txt'. Did you mean 'text'?" in problems_of(Scale, columns=["txt", "x"])
    assert "Scale(…) cannot be called with fcator" in problems_of(Scale, arguments={"fcator": 1})
    assert "NotCallable has no __call__(self, batch)" in problems_of(NotCallable)
    assert "3 cannot be called" in problems_of(3)
    assert "made already" in problems_of(Scale(), arguments={"factor": 1})
    assert "missing a required argument: 'b'" in problems_of(lambda a, b: {})
    assert "AWS" in problems_of(Scale, arguments={"aws_secret_access_key": "x" * 40})


def test_a_variable_that_cannot_travel_is_named() -> None:
    lock = threading.Lock()
    assert "'lock'" in problems_of(lambda batch: {"y": [lock]})


def test_all_problems_are_told_at_once() -> None:
    told = problems_of(Scale, columns=["txt", "z"], arguments={"fcator": 1})
    assert told.count("\n") == 2


def test_wrong_options_are_refused_together() -> None:
    with pytest.raises(InvalidSpec) as refused:
        callable_model(Scale, batch_rows=0, resources={"CPU": -1.0})
    assert len(refused.value.problems) == 2


def test_models_that_compute_alike_describe_themselves_alike() -> None:
    one = callable_model(Scale, arguments={"factor": 2}, batch_rows=1).describe()
    assert callable_model(Scale, arguments={"factor": 2}, resources={"GPU": 1}).describe() == one
    assert callable_model(Scale, arguments={"factor": 3}).describe() != one
    assert callable_model(Scale, arguments={"factor": 2}, columns="x").describe() != one


# --- Arrow and numpy


def back_and_forth(array: pa.Array) -> tuple[np.ndarray, pa.Array]:
    numpy = to_numpy(pa.chunked_array([array]))
    return numpy, to_arrow(numpy)


@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    kind=st.sampled_from(["uint8", "int64", "float32", "float64", "float16", "bool"]),
)
@settings(max_examples=60, deadline=None)
def test_arrays_of_any_shape_come_back_as_they_were(shape: list[int], kind: str) -> None:
    array = (np.arange(math.prod(shape)).reshape(shape) % 2).astype(kind)
    arrow = to_arrow(array)
    assert len(arrow) == shape[0]
    if 0 not in shape:
        back = to_numpy(pa.chunked_array([arrow]))
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_tensors_come_back_from_parquet_and_from_slices(tmp_path: Any) -> None:
    array = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    pq.write_table(pa.table({"t": to_arrow(array)}), tmp_path / "t.parquet")
    column = pq.read_table(tmp_path / "t.parquet")["t"]
    np.testing.assert_array_equal(to_numpy(column), array)
    np.testing.assert_array_equal(to_numpy(column.slice(1, 2)), array[1:3])
    twice = pa.chunked_array([*column.chunks, *column.chunks])
    np.testing.assert_array_equal(to_numpy(twice), np.concatenate([array, array]))
    assert pq.read_table(tmp_path / "t.parquet").to_pandas()["t"][0].shape == (3,)


def test_a_column_of_images_is_read_without_a_copy() -> None:
    images = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    arrow = to_arrow(images)
    seen = [to_numpy(pa.chunked_array([arrow])) for _ in range(2)]
    assert np.shares_memory(*seen)
    np.testing.assert_array_equal(seen[0], images)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(images)
    np.testing.assert_array_equal(to_numpy(pa.chunked_array([tensors])), images)


def test_nulls_and_other_kinds_become_what_numpy_has_for_them() -> None:
    numbers, _ = back_and_forth(pa.array([1, None]))
    assert numbers.dtype == np.float64
    assert np.isnan(numbers[1])
    assert back_and_forth(pa.array(["a", None]))[0].tolist() == ["a", None]
    assert back_and_forth(pa.array([True, None]))[0].tolist() == [True, None]
    assert back_and_forth(pa.array([{"a": 1}]))[0].tolist() == [{"a": 1}]
    words, _ = back_and_forth(pa.array(["b", "a", "b"]).dictionary_encode())
    assert words.tolist() == ["b", "a", "b"]
    ragged, again = back_and_forth(pa.array([[1, 2], [3], None]))
    assert [None if row is None else row.tolist() for row in ragged] == [[1, 2], [3], None]
    assert again.to_pylist() == [[1, 2], [3], None]
    _, again = back_and_forth(pa.array([[1, 2], None], pa.list_(pa.int64(), 2)))
    assert again.to_pylist() == [[1, 2], None]


def test_torch_tensors_and_lists_of_matrices_become_columns() -> None:
    import torch

    assert to_arrow(torch.ones(2, 2, dtype=torch.bfloat16)).to_pylist() == [[1, 1], [1, 1]]
    assert to_arrow([torch.ones(1), torch.zeros(2)]).to_pylist() == [[1], [0, 0]]
    assert to_arrow([np.ones((1, 2)), np.ones((2, 1))]).to_pylist() == [[[1, 1]], [[1], [1]]]
