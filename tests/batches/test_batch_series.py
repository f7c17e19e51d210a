"""Series of batch runs: each edition computes what is new, and no file is passed over."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

import eksml
from eksml.batches import callable_model, ledger, series
from eksml.batches.asked import Asked, checked
from eksml.batches.blocks import pack
from eksml.batches.series import Edition, Series
from eksml.errors import InvalidSpec, RunFailed, RunNameInUse
from eksml.runs.driver import Attempt, create
from eksml.storage import URI, arrow_filesystem

sys.path.insert(0, str(Path(__file__).parent))
from counted import Counted, computed, read_output, write_input


def square(batch):
    return {"square": batch["n"] ** 2}


def asked_of(root: URI) -> Asked:
    return checked(square, str(root / "in"), str(root / "out"), "nightly", str(root / "runs"))


def planned(root: URI, *, again: bool = False) -> Edition:
    """The edition that a call finds, its run recorded and waiting for its driver."""
    asked = asked_of(root)
    with Series(asked.root, "nightly").planning(asked.output):
        edition = Series(asked.root, "nightly").next(asked, again=again)
        if edition.inventory is not None:
            blocks = list(pack(edition.inventory.pieces, 100, splittable=True))
            ledger.save(edition.run, blocks, edition.meta)
            create(asked.root, edition.run.name, verb="batch", entry="square")
            (edition.output / "part-000000.parquet").write_bytes(b"rows")
    return edition


def fail(edition: Edition) -> None:
    with pytest.raises(ValueError, match="bad luck"), Attempt(edition.run):
        raise ValueError("bad luck")


def succeed(edition: Edition) -> None:
    with Attempt(edition.run):
        pass


def files(edition: Edition) -> list[str]:
    assert edition.inventory is not None
    return sorted({URI.parse(piece.file).name for piece in edition.inventory.pieces})


def add(root: URI, name: str, rows: int) -> None:
    """Write a file of the input, or write it anew."""
    write_input(root / "new", rows, files=1)
    (root / "in" / name).write_bytes((root / "new" / "0.parquet").read_bytes())


@pytest.fixture
def begun(root: URI) -> URI:
    """A place with two files of input and an edition that has computed them."""
    write_input(root / "in", 200, files=2)
    edition = planned(root)
    assert files(edition) == ["0.parquet", "1.parquet"]
    succeed(edition)
    series.mark(edition.run)
    return root


def test_an_edition_is_of_what_is_new_or_was_changed(begun: URI) -> None:
    time.sleep(1.1)  # S3 tells whole seconds
    add(begun, "2.parquet", 30)
    (begun / "in" / "1.parquet").write_bytes((begun / "in" / "1.parquet").read_bytes())

    edition = planned(begun)

    assert files(edition) == ["1.parquet", "2.parquet"]
    assert edition.run == begun / "runs" / "nightly-000002"
    assert edition.output == begun / "out" / "edition=000002"


def test_where_nothing_is_new_no_run_is_made(begun: URI, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        edition = planned(begun)

    assert edition.is_old
    assert edition.run.name == "nightly-000001"
    assert "Nothing is new since nightly-000001" in caplog.text
    assert [run.name for run in eksml.list_runs(begun / "runs")] == ["nightly-000001"]


def test_an_edition_that_was_killed_before_its_mark_gets_it_from_the_next_call(begun: URI) -> None:
    add(begun, "2.parquet", 30)
    succeed(planned(begun))
    assert Series(begun / "runs", "nightly").marked() == 1

    assert planned(begun).is_old
    assert Series(begun / "runs", "nightly").marked() == 2


def test_an_edition_that_did_not_succeed_goes_on_and_what_came_meanwhile_is_the_next_ones(
    begun: URI,
) -> None:
    add(begun, "2.parquet", 30)
    fail(planned(begun))
    add(begun, "3.parquet", 30)

    again = planned(begun)
    assert (again.run.name, again.inventory) == ("nightly-000002", None)
    create(begun / "runs", again.run.name, verb="batch", entry="square")
    succeed(again)

    assert files(planned(begun)) == ["3.parquet"]


def test_a_file_that_changes_while_it_is_computed_belongs_to_the_next_edition_too(
    begun: URI,
) -> None:
    add(begun, "2.parquet", 30)
    edition = planned(begun)
    time.sleep(1.1)
    add(begun, "2.parquet", 30)
    succeed(edition)

    assert files(planned(begun)) == ["2.parquet"]


def test_an_edition_whose_input_changed_before_it_was_done_begins_anew(begun: URI, caplog) -> None:
    add(begun, "2.parquet", 30)
    first = planned(begun)
    (first.output / "part-000009.parquet").write_bytes(b"of the old cut")
    fail(first)
    add(begun, "2.parquet", 40)

    second = planned(begun)

    assert (second.run, files(second)) == (first.run, ["2.parquet"])
    assert second.inventory is not None
    assert second.inventory.rows == 40
    assert "begins anew" in caplog.text
    assert [stat.uri.name for stat in second.output.list()] == ["part-000000.parquet"]


def test_the_failed_rows_of_the_last_edition_can_be_tried_again(begun: URI) -> None:
    add(begun, "2.parquet", 30)

    edition = planned(begun, again=True)

    assert (edition.run.name, edition.inventory) == ("nightly-000001", None)
    assert not edition.is_old


def test_of_two_callers_one_plans(begun: URI) -> None:
    asked = asked_of(begun)
    one = Series(asked.root, "nightly")

    with one.planning(asked.output), pytest.raises(RunNameInUse, match="Another call plans"):
        planned(begun)

    add(begun, "2.parquet", 30)
    planned(begun)
    with pytest.raises(RunNameInUse, match="nightly-000002 is pending"):
        planned(begun)


def test_an_output_or_a_name_that_is_a_runs_is_no_series(root: URI) -> None:
    write_input(root / "in", 100, files=1)
    (root / "out" / "part-000000.parquet").write_bytes(b"rows")
    with pytest.raises(RunNameInUse, match="holds files already"):
        planned(root)

    (root / "out").delete(recursive=True)
    create(root / "runs", "nightly", verb="batch", entry="square")
    with pytest.raises(RunNameInUse, match="nightly is a run by itself"):
        planned(root)

    (root / "runs").delete(recursive=True)
    ledger.save(root / "runs" / "nightly-000001", [], {})
    create(root / "runs", "nightly-000001", verb="batch", entry="square")
    with pytest.raises(RunNameInUse, match="nightly-000001 is a run by itself"):
        planned(root)
    assert not list((root / "out").list())


def test_a_call_that_is_refused_leaves_nothing(root: URI) -> None:
    write_input(root / "in", 100, files=1)
    asked = replace(asked_of(root), job=asked_of(root).job.model_copy(update={"keep": ("m",)}))

    with (
        pytest.raises(InvalidSpec, match="'m' is no column"),
        Series(asked.root, "nightly").planning(asked.output),
    ):
        Series(asked.root, "nightly").next(asked, again=False)

    assert not list((root / "out").list(recursive=True))
    assert not list((root / "runs").list(recursive=True))


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"since": "watermark"}, ["name"]),
        ({"since": "yesterday"}, ["since", "name"]),
        ({"since": "yesterday", "name": "nightly", "workers": 0}, ["workers", "since"]),
        ({"since": "watermark", "name": "n" * 60}, ["name"]),
        ({"since": "watermark", "name": "no name"}, ["name"]),
    ],
)
def test_all_that_is_wrong_with_a_series_is_told_before_anything_starts(
    tmp_path: Path, arguments, paths
) -> None:
    write_input(URI.parse(tmp_path / "in"), 100, files=1)
    with pytest.raises(InvalidSpec) as caught:
        eksml.batch(
            square, tmp_path / "in", tmp_path / "out", storage=tmp_path / "runs", **arguments
        )

    assert [problem.path for problem in caught.value.problems] == paths
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("embedded_ray")
def test_editions_hold_every_row_once_and_are_read_as_one(tmp_path: Path) -> None:
    root, notes = URI.parse(tmp_path), tmp_path / "notes"
    write_input(root / "in", 400, files=2)
    call = {"name": "nightly", "since": "watermark", "storage": tmp_path / "runs", "workers": 1}

    def compute(fail: tuple[int, ...] = (), **more) -> eksml.runs.Run:
        model = callable_model(Counted, arguments={"notes": str(notes), "fail": fail})
        return eksml.batch(model, root / "in", root / "out", **call, **more)

    assert compute().name == "nightly-000001"
    add(root, "5.parquet", 50)
    with pytest.raises(RunFailed, match="max_error_share"):
        compute(fail=tuple(range(50)))
    second = compute(retry_errors=True)
    third = compute()

    assert (second.name, third.name) == ("nightly-000002",) * 2
    assert second.result()["rows"] == 50
    assert computed(notes) == {n: 1 + (n < 50) for n in range(400)}
    path, filesystem = arrow_filesystem(root / "out")
    import pyarrow.dataset as ds

    table = ds.dataset(path, filesystem=filesystem, partitioning="hive").to_table()
    assert sorted(zip(table["edition"].to_pylist(), table["n"].to_pylist(), strict=True)) == [
        *((1, n) for n in range(400)),
        *((2, n) for n in range(50)),
    ]
    assert len(read_output(root / "out")) == 450


@pytest.mark.usefixtures("embedded_ray")
def test_of_two_calls_at_once_one_computes(tmp_path: Path) -> None:
    root, outcomes = URI.parse(tmp_path), []
    write_input(root / "in", 200, files=2)
    both = threading.Barrier(2)

    def call() -> None:
        both.wait()
        try:
            outcomes.append(
                eksml.batch(
                    callable_model(
                        Counted, arguments={"notes": str(tmp_path / "notes"), "pause_s": 1.0}
                    ),
                    root / "in",
                    root / "out",
                    name="nightly",
                    since="watermark",
                    storage=tmp_path / "runs",
                    workers=1,
                )
            )
        except RunNameInUse as error:
            outcomes.append(error)

    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()

    assert sorted(type(one).__name__ for one in outcomes) == ["Run", "RunNameInUse"]
    assert len(read_output(root / "out")) == 200
    assert set(computed(tmp_path / "notes").values()) == {1}
    assert not os.path.exists(tmp_path / "runs" / "nightly" / "planning" / "lease.json")
