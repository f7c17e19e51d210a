"""An application of Ray Serve as the model of a batch run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from eksml.batches.blocks import PLACE
from eksml.batches.models.serve_app import serve_app
from eksml.errors import InvalidSpec

ROWS = pa.table({"x": range(20), "text": [f"row {row}" for row in range(20)]})


class Grader:
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["x"] == 7:
            raise ValueError(f"cannot grade {row['x']}")
        return {"grade": row["x"] / 2, "seen": sorted(row)}

    def length(self, row: dict[str, Any]) -> int:
        return len(row["text"])

    async def slow(self, row: dict[str, Any]) -> int:
        import asyncio

        await asyncio.sleep(60 if row["x"] == 0 else 0)
        return int(row["x"])

    def mixed(self, row: dict[str, Any]) -> Any:
        return row["x"] if row["x"] else "none"

    def dies_once(self, row: dict[str, Any]) -> int:
        marker = row["text"]
        if not os.path.exists(marker):
            open(marker, "w").close()
            os._exit(1)
        return int(row["x"])


@pytest.fixture(scope="module")
def grader(embedded_ray: None) -> Iterator[str]:
    import ray.cloudpickle
    from ray import serve

    # The replicas cannot import this file
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    options = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 100}
    serve.run(serve.deployment(Grader).options(**options).bind(), name="grader", route_prefix=None)
    yield "grader"
    serve.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def compute(model: Any, table: pa.Table = ROWS) -> Any:
    loaded = model.load()
    try:
        return loaded.compute(table)
    finally:
        loaded.close()
        loaded.close()


pytestmark = pytest.mark.long


def test_each_row_is_a_call_and_what_it_raises_is_an_error_of_that_row(grader: str) -> None:
    table = ROWS.append_column(PLACE, pa.array(range(20)))
    outcome = compute(serve_app(grader), table)
    assert outcome.errors == {7: "ValueError: cannot grade 7"}
    wanted = [None if row == 7 else row / 2 for row in range(20)]
    assert outcome.columns["grade"].to_pylist() == wanted
    assert outcome.columns["seen"][0].as_py() == ["text", "x"]


def test_another_method_gets_only_its_columns_and_one_value_is_one_column(grader: str) -> None:
    model = serve_app(grader, deployment="Grader", method="length", columns="text", output="chars")
    assert compute(model).columns.to_pydict() == {"chars": [len(f"row {r}") for r in range(20)]}


def test_a_call_that_does_not_end_is_an_error_of_that_row(grader: str) -> None:
    outcome = compute(serve_app(grader, method="slow", timeout_s=3, retries=0), ROWS.slice(0, 5))
    assert outcome.errors == {0: "No answer within 3 s (after 1 tries)"}
    assert outcome.columns["output"].to_pylist() == [None, 1, 2, 3, 4]


def test_values_without_a_common_type_stop_the_run(grader: str) -> None:
    with pytest.raises(InvalidSpec, match="Column 'output' of what it returned"):
        compute(serve_app(grader, method="mixed"))


def test_a_replica_that_dies_is_asked_again(grader: str, tmp_path: Any) -> None:
    table = pa.table({"x": [1], "text": [str(tmp_path / "died")]})
    outcome = compute(serve_app(grader, method="dies_once"), table)
    assert outcome.errors == {}
    assert outcome.columns["output"].to_pylist() == [1]
    assert (tmp_path / "died").exists()


def test_an_application_that_does_not_run_is_told_with_those_that_do(grader: str) -> None:
    with pytest.raises(InvalidSpec, match="'grades' does not run on this Ray; what runs: grader"):
        serve_app("grades").load()
    with pytest.raises(InvalidSpec, match="does not run"):
        serve_app(grader, deployment="Other").load()


def test_missing_columns_are_told_before_anything_starts() -> None:
    [problem] = serve_app("grader", columns=["txt"]).check(ROWS.schema)
    assert "Did you mean 'text'?" in str(problem)
    assert serve_app("grader").check(ROWS.schema) == []
