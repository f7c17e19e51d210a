"""``eksml.batch`` end to end on a real Ray: every row once, whatever its input and its fate."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import eksml
from eksml.batches import callable_model, ledger
from eksml.errors import InvalidSpec, RunFailed, RunNameInUse
from eksml.storage import URI

sys.path.insert(0, str(Path(__file__).parent))
from counted import Counted, computed, read_output, write_input

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("embedded_ray")]


def square(batch):
    return {"square": batch["n"] ** 2}


class Fails:
    """Fails on some numbers; takes its worker down on others."""

    def __init__(self, fail=(), die=()):
        self.fail, self.die = set(fail), set(die)

    def __call__(self, batch):
        n = set(batch["n"].tolist())
        if n & self.die:
            import os

            os._exit(1)
        if bad := n & self.fail:
            raise ValueError(f"cannot do {min(bad)}")
        return {"square": batch["n"] ** 2}


@pytest.fixture
def places(tmp_path):
    """Input, output and storage."""
    folder = URI.parse(tmp_path)
    write_input(folder / "in", 1_000)
    return {"data": str(folder / "in"), "output": str(folder / "out"), "storage": tmp_path / "runs"}


def model(cls, **arguments):
    return callable_model(cls, arguments=arguments)


def assert_squares(output: str, rows: int = 1_000) -> None:
    table = read_output(URI.parse(output))
    n = table["n"].to_numpy()
    assert n.tolist() == list(range(rows))
    assert (table["square"].to_numpy() == n**2).all()


def test_every_row_comes_out_once_with_its_columns(places) -> None:
    run = eksml.batch(square, **places, rows_per_file=130)

    assert_squares(places["output"])
    assert read_output(URI.parse(places["output"])).column_names == ["n", "text", "square"]
    report = run.result()
    assert (report["rows"], report["errors"]) == (1_000, 0)
    assert run.plan()["blocks"] == report["files"] == 8
    assert run.state == "succeeded"
    assert "1000 of 1000" in run.why()


def test_a_class_is_loaded_once_a_worker_and_each_row_is_computed_once(places, tmp_path) -> None:
    counted = model(Counted, notes=str(tmp_path / "notes"))

    eksml.batch(counted, **places, workers=2, rows_per_file=50)

    loads = [file.read_text() for file in (tmp_path / "notes").glob("*.pid")]
    assert loads in (["loaded\n"], ["loaded\n"] * 2)  # one may be done before the other is there
    assert computed(tmp_path / "notes") == dict.fromkeys(range(1_000), 1)


def test_columns_are_kept_as_asked_and_partitions_are_folders(places) -> None:
    eksml.batch(square, **places, keep=["n"])
    assert read_output(URI.parse(places["output"])).column_names == ["n", "square"]


def test_failed_rows_are_in_the_error_table_and_the_rest_goes_on(places) -> None:
    bad = set(range(0, 1_000, 100))

    run = eksml.batch(model(Fails, fail=bad), **places, rows_per_file=130)

    assert sorted(read_output(URI.parse(places["output"]))["n"].to_pylist()) == sorted(
        set(range(1_000)) - bad
    )
    errors = run.errors()
    assert set(errors["n"]) == bad
    assert errors.loc[errors["n"] == 300, "_error"].item() == "ValueError: cannot do 300"
    assert run.result()["errors"] == 10


def test_failed_rows_can_be_tried_again(places) -> None:
    run = eksml.batch(model(Fails, fail={1, 500}), **places, name="r", rows_per_file=130)
    assert run.result()["errors"] == 2

    some = eksml.batch(model(Fails, fail={1}), **places, name="r", retry_errors=True)
    assert some.errors()["n"].tolist() == [1]
    none = eksml.batch(model(Fails), **places, name="r", retry_errors=True)
    assert none.result()["errors"] == 0
    assert_squares(places["output"])


def test_too_many_errors_stop_the_run(places) -> None:
    half = set(range(0, 1_000, 2))

    with pytest.raises(RunFailed, match=r"max_error_share=0\.1"):
        eksml.batch(model(Fails, fail=half), **places, rows_per_file=130)


def test_rows_that_kill_their_worker_end_in_the_error_table(places) -> None:
    run = eksml.batch(
        model(Fails, die={777}), **places, rows_per_file=50, workers=1, max_failures=2
    )

    assert set(run.errors()["n"]) == set(range(750, 800))
    assert len(read_output(URI.parse(places["output"]))) == 950
    assert run.errors()["_error"].str.contains("took its worker down 2 times").all()


def test_a_model_that_cannot_be_loaded_fails_with_its_own_traceback(places) -> None:
    class Broken:
        def __init__(self):
            raise OSError("no such weights")

        def __call__(self, batch):
            return batch

    with pytest.raises(RunFailed, match=r"(?s)^Traceback.*no such weights"):
        eksml.batch(Broken, **places)


def test_a_cancelled_run_goes_on_without_computing_a_row_twice(places, tmp_path) -> None:
    notes = tmp_path / "notes"
    slow = model(Counted, notes=str(notes), pause_s=0.1)
    run = eksml.batch(slow, **places, name="c", rows_per_file=50, workers=1, wait=False)
    while run.state in ("pending", "running") and len(computed(notes)) < 300:
        time.sleep(0.05)
    run.cancel(grace_s=180)
    assert run.state == "cancelled"
    files = [file for done in ledger.read_all(run.uri) for file in done.files]
    done = [
        n for file in files for n in pq.read_table(f"{places['output']}/{file}")["n"].to_pylist()
    ]
    before = computed(notes)

    eksml.batch(slow, **places, name="c", workers=2)

    assert_squares(places["output"])
    after = computed(notes)
    assert all(after[row] == before[row] for row in done)
    assert max(after.values()) <= 2


def test_a_run_goes_on_with_the_types_that_it_began_with(tmp_path) -> None:
    lines = tmp_path / "in" / "a.jsonl"
    lines.parent.mkdir()
    lines.write_text("".join(f'{{"n": {n}}}\n' for n in range(100)))
    places = {"data": str(lines.parent), "output": tmp_path / "out", "storage": tmp_path / "runs"}
    with pytest.raises(RunFailed):
        eksml.batch(model(Fails, fail=set(range(50, 100))), **places, name="t", rows_per_file=50)
    (lines.parent / "b.jsonl").write_text('{"n": "a text, which a column of numbers is not"}\n')

    run = eksml.batch(model(Fails), **places, name="t", retry_errors=True)

    assert run.result()["rows"] == 100
    assert str(read_output(URI.parse(tmp_path / "out")).schema.field("n").type) == "int64"


def test_two_runs_cannot_share_an_output(places) -> None:
    eksml.batch(square, **places, name="first")

    began_s = time.monotonic()
    with pytest.raises(RunNameInUse, match="first"):
        eksml.batch(square, **places, name="second")
    assert time.monotonic() - began_s < 5
    with pytest.raises(RunNameInUse, match="has succeeded"):
        eksml.batch(square, **places, name="first")


def test_a_run_goes_on_only_as_what_it_was(places) -> None:
    with pytest.raises(RunFailed):
        eksml.batch(model(Fails, fail=set(range(500))), **places, name="x")

    with pytest.raises(InvalidSpec, match="differs from what this run began with"):
        eksml.batch(square, **places, name="x")


def test_all_that_is_wrong_is_told_before_anything_starts(places) -> None:
    with pytest.raises(InvalidSpec) as caught:
        eksml.batch(
            square, places["data"], "s3://No_Bucket/x", workers=0, name="no name", storage="ftp://x"
        )

    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["name", "output", "workers", "storage"]
    with pytest.raises(InvalidSpec, match="'m' is no column"):
        eksml.batch(square, **places, keep=["m"])
    assert not Path(places["output"]).exists()


def test_ids_that_occur_twice_are_refused(tmp_path) -> None:
    folder = URI.parse(tmp_path)
    write_input(folder / "in", 100)
    write_input(folder / "in/more", 10)

    with pytest.raises(InvalidSpec, match="id_column"):
        eksml.batch(square, folder / "in", folder / "out", storage=tmp_path / "runs", id_column="n")


def test_progress_metrics_and_receipt_tell_of_the_rows(places) -> None:
    run = eksml.batch(square, **places, rows_per_file=50)

    metrics = run.metrics()
    assert metrics.index[-1] == 1_000
    assert (metrics["rows_per_s"].iloc[-1]) > 0
    assert run.receipt().attempts == 1
    assert np.isfinite(run.receipt().kept_share)


def test_two_runs_in_one_process_do_not_disturb_each_other(tmp_path) -> None:
    folder = URI.parse(tmp_path)
    write_input(folder / "in", 400)
    runs = []

    def start(name: str) -> None:
        runs.append(
            eksml.batch(square, folder / "in", folder / name, storage=tmp_path / "runs", name=name)
        )

    threads = [threading.Thread(target=start, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [run.state for run in runs] == ["succeeded"] * 2
    for name in ("a", "b"):
        assert_squares(str(folder / name), 400)
