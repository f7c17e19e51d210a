"""A run's files are added to an Iceberg table in one snapshot, once, whatever is killed."""

from __future__ import annotations

import datetime
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from counted import Counted, computed, write_input

import eksml
from eksml.batches import callable_model, iceberg_table
from eksml.batches.iceberg_table import IcebergTable
from eksml.batches.iceberg_types import conformed
from eksml.batches.ledger import Key
from eksml.batches.sink import Sink
from eksml.errors import InvalidSpec, RunFailed, StorageUnavailable
from eksml.storage import URI

BOTH = pytest.mark.parametrize("root", ["file", "s3"], indirect=True)


@pytest.fixture
def root(request: pytest.FixtureRequest, tmp_path: Path) -> URI:
    """An empty folder; with BOTH in each kind of storage."""
    if getattr(request, "param", "file") == "file":
        return URI.parse(tmp_path / "root")
    bucket: URI = request.getfixturevalue("bucket")
    return bucket / "root"


@pytest.fixture
def properties(tmp_path: Path, root: URI) -> dict[str, str]:
    """Of a catalog in SQLite, whose own files lie beside the run's."""
    return {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": str(root / "warehouse"),
    }


@pytest.fixture
def table(properties: dict[str, str]) -> IcebergTable:
    made = iceberg_table("shop.labels", "test", **properties)
    made._opened().create_namespace("shop")
    return made


def rows(table: IcebergTable) -> list[dict[str, Any]]:
    found = table._opened().load_table(table.name).scan().to_arrow()
    return found.sort_by("n").to_pylist()  # type: ignore[no-any-return]


def snapshots(table: IcebergTable) -> int:
    return len(table._opened().load_table(table.name).metadata.snapshots)


def write(root: URI, block: int, columns: dict[str, Any], generation: int = 0) -> URI:
    """A file of a run's output."""
    sink = Sink(root / "out", for_iceberg=True)
    (name,) = sink.write(Key(block, generation), pa.table(columns))
    return root / "out" / name


@BOTH
def test_the_files_of_a_run_are_one_snapshot(table: IcebergTable, root: URI) -> None:
    files = [write(root, block, {"n": [block], "label": ["x"]}) for block in range(3)]

    snapshot = table.add(root / "runs" / "r", 1.5, {0: files})

    assert rows(table) == [{"n": n, "label": "x"} for n in range(3)]
    (made,) = table._opened().load_table(table.name).metadata.snapshots
    assert made.snapshot_id == snapshot
    assert made.summary is not None
    assert made.summary["eksml.run"] == str(root / "runs" / "r")


def test_what_was_added_is_not_added_again(table: IcebergTable, root: URI) -> None:
    run, files = root / "runs" / "r", [write(root, 0, {"n": [0]})]
    first = table.add(run, 1.5, {0: files})

    assert table.add(run, 1.5, {0: files}) == first
    (run / "table").delete(recursive=True)  # as if it was killed before that was noted
    assert table.add(run, 1.5, {0: files}) == first
    assert rows(table) == [{"n": 0}]

    later = [write(root, 0, {"n": [1]}, generation=1)]
    assert table.add(run, 1.5, {0: files, 1: later}) != first
    assert rows(table) == [{"n": 0}, {"n": 1}]
    assert table.add(root / "runs" / "empty", 1.5, {0: []}) is None
    assert snapshots(table) == 2


def test_a_snapshot_that_expired_is_remembered(table: IcebergTable, root: URI) -> None:
    run, files = root / "runs" / "r", [write(root, 0, {"n": [0]})]
    first = table.add(run, 1.5, {0: files})
    loaded = table._opened().load_table(table.name)
    loaded.append(pa.table({"n": [7]}))
    assert first is not None
    loaded.maintenance.expire_snapshots().by_id(first).commit()

    assert table.add(run, 1.5, {0: files}) == first
    assert rows(table) == [{"n": 0}, {"n": 7}]


def test_a_run_that_is_deleted_and_made_anew_adds_its_own(table: IcebergTable, root: URI) -> None:
    run = root / "runs" / "r"
    table.add(run, 1.5, {0: [write(root, 0, {"n": [0]})]})
    run.delete(recursive=True)

    table.add(run, 2.5, {0: [write(root, 1, {"n": [1]})]})

    assert rows(table) == [{"n": 0}, {"n": 1}]


def test_runs_that_add_at_one_time_all_get_in(table: IcebergTable, root: URI) -> None:
    files = [write(root, block, {"n": [block]}) for block in range(6)]
    table.add(root / "runs" / "first", 1.5, {0: files[:1]})

    def add(block: int) -> None:
        # Two drivers of each run, as when one of them is thought to be dead
        table.add(root / "runs" / f"r{block}", 1.5, {0: [files[block]]})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [1, 1, 2, 2, 3, 3]))

    assert rows(table) == [{"n": n} for n in range(4)]


def test_new_columns_are_taken_on_and_missing_ones_are_null(table: IcebergTable, root: URI) -> None:
    table.add(root / "runs" / "a", 1.5, {0: [write(root, 0, {"n": [0], "old": ["x"]})]})
    files = [
        write(root, 1, {"n": [1], "new": pa.array([[0.5]], pa.list_(pa.float32(), 1))}),
        write(root, 2, {"n": [2], "new": pa.nulls(1)}),
    ]

    table.check_file(files[0])
    table.add(root / "runs" / "b", 1.5, {0: files})

    assert [row["old"] for row in rows(table)] == ["x", None, None]
    assert [row["new"] for row in rows(table)] == [None, [0.5], None]


def test_files_of_another_type_are_refused_and_leave_the_table_as_it_was(
    table: IcebergTable, root: URI
) -> None:
    table.add(root / "runs" / "a", 1.5, {0: [write(root, 0, {"n": [0]})]})
    wrong = write(root, 1, {"n": ["one"]})

    with pytest.raises(InvalidSpec, match=r"cannot take the output's files.*n: long -> string"):
        table.check_file(wrong)
    with pytest.raises(InvalidSpec, match="cannot take the output's files"):
        table.add(root / "runs" / "b", 1.5, {0: [wrong]})
    assert rows(table) == [{"n": 0}]
    assert snapshots(table) == 1


def test_what_stands_in_the_way_is_told_before_anything_is_computed(
    properties: dict[str, str], table: IcebergTable, tmp_path: Path
) -> None:
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import IdentityTransform

    def told(name: str, **changed: str) -> str:
        problems = iceberg_table(name, "test", **{**properties, **changed}).problems()
        return " ".join(str(problem) for problem in problems)

    assert told("shop.labels") == ""
    assert "has no namespace for shap.labels" in told("shap.labels")
    assert "cannot be used" in told("shop.labels", uri=f"sqlite:///{tmp_path}/no/catalog.db")
    table._opened().create_table(
        "shop.parted",
        schema=table_schema(),
        partition_spec=PartitionSpec(PartitionField(1, 1000, IdentityTransform(), "lang")),
    )
    assert "is partitioned" in told("shop.parted")


def table_schema() -> Any:
    from pyiceberg.schema import Schema
    from pyiceberg.types import NestedField, StringType

    return Schema(NestedField(1, "lang", StringType(), required=False))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"name": "labels"}, "no table's name"),
        ({"name": "a.b", "s3.secret-access-key": "x"}, "holds a secret"),
        ({"name": "a.b", "uri": "postgresql://me:secret@host/db"}, "TEST__URI in the environment"),
    ],
)
def test_a_table_that_cannot_be_is_refused(arguments: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        iceberg_table(catalog="test", **arguments)


def test_a_table_takes_neither_lines_of_json_nor_folders_of_partitions(tmp_path: Path) -> None:
    write_input(URI.parse(tmp_path / "in"), 10)
    places = {
        "data": str(tmp_path / "in"),
        "output": tmp_path / "out",
        "storage": tmp_path / "runs",
    }

    with pytest.raises(InvalidSpec) as refused:
        eksml.batch(
            square, **places, table=iceberg_table("a.b"), format="jsonl", partition_by=["n"]
        )

    assert [problem.path for problem in refused.value.problems] == ["table", "table"]


def test_columns_become_what_iceberg_knows() -> None:
    noon = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
    given = pa.table(
        {
            "pixels": pa.array([[[255]]], pa.list_(pa.list_(pa.uint8(), 1))),
            "count": pa.array([2**32 - 1], pa.uint32()),
            "half": pa.array([np.float16(0.5)]),
            "when": pa.array([noon], pa.timestamp("ns", "Europe/Berlin")),
            "file": pa.array(["a"]).dictionary_encode(),
            "same": pa.array([{"a": 1}]),
            "void": pa.nulls(1),
        }
    )

    made = conformed(given)

    assert made.schema == pa.schema(
        {
            "pixels": pa.list_(pa.list_(pa.int32(), 1)),
            "count": pa.int64(),
            "half": pa.float32(),
            "when": pa.timestamp("us", "UTC"),
            "file": pa.string(),
            "same": pa.struct({"a": pa.int64()}),
        }
    )
    assert made.to_pylist() == given.drop_columns("void").to_pylist()
    with pytest.raises(pa.ArrowInvalid):
        conformed(pa.table({"n": pa.array([2**64 - 1], pa.uint64())}))
    with pytest.raises(TypeError, match="no type for duration"):
        conformed(pa.table({"n": pa.array([1], pa.duration("s"))}))


KILLED = """
import os, signal, sys
from eksml.batches.iceberg_table import IcebergTable
from eksml.storage import URI

moment, root, uri = sys.argv[1], URI.parse(sys.argv[2]), sys.argv[3]
append = IcebergTable._append

def killed(*given):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    append(*given)
    os.kill(os.getpid(), signal.SIGKILL)

IcebergTable._append = killed
properties = {"type": "sql", "uri": uri, "warehouse": str(root / "warehouse")}
table = IcebergTable(name="shop.labels", catalog="test", properties=properties)
table.add(root / "runs" / "r", 1.5, {0: [root / "out" / "part-000000.parquet"]})
"""


@BOTH
@pytest.mark.parametrize(("moment", "added"), [("before", 0), ("after", 1)])
def test_a_driver_that_is_killed_around_the_commit_adds_its_files_once(
    table: IcebergTable, root: URI, tmp_path: Path, moment: str, added: int
) -> None:
    file = write(root, 0, {"n": [0]})
    script = tmp_path / "killed.py"
    script.write_text(KILLED)

    died = subprocess.run(
        [sys.executable, script, moment, str(root), table.properties["uri"]], check=False
    )
    assert died.returncode == -signal.SIGKILL
    assert snapshots(table) == added

    table.add(root / "runs" / "r", 1.5, {0: [file]})
    assert rows(table) == [{"n": 0}]
    assert snapshots(table) == 1


def square(batch: Any) -> Any:
    return {"square": batch["n"] ** 2}


@pytest.mark.usefixtures("embedded_ray")
def test_a_run_whose_commit_failed_computes_nothing_again_and_adds_every_row_once(
    table: IcebergTable, root: URI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_input(root / "in", 1_000)
    model = callable_model(Counted, arguments={"notes": str(tmp_path / "notes"), "fail": (7,)})
    call: dict[str, Any] = {"name": "r", "storage": root / "runs", "table": table}
    call |= {"data": str(root / "in"), "output": root / "out", "rows_per_file": 250}

    def lost(*given: Any) -> int:
        raise OSError("the catalog is away")

    with monkeypatch.context() as patch:
        patch.setattr(IcebergTable, "_append", lost)
        with pytest.raises(RunFailed, match="the catalog is away"):
            eksml.batch(model, **call)
    assert snapshots(table) == 0
    before = computed(tmp_path / "notes")

    run = eksml.batch(model, **call)

    assert computed(tmp_path / "notes") == before
    n = [number for number in range(1_000) if number != 7]
    assert [(row["n"], row["square"]) for row in rows(table)] == [(one, one**2) for one in n]
    told = run.result()["table"]
    assert told["name"] == "shop.labels"

    mended = callable_model(Counted, arguments={"notes": str(tmp_path / "notes")})
    again = eksml.batch(mended, **call, retry_errors=True)

    assert [row["n"] for row in rows(table)] == list(range(1_000))
    assert again.result()["table"]["snapshot_id"] != told["snapshot_id"]


@pytest.mark.usefixtures("embedded_ray")
def test_results_that_the_table_cannot_take_end_the_run_with_its_first_block(
    table: IcebergTable, root: URI, tmp_path: Path
) -> None:
    write_input(root / "in", 1_000)
    table.add(root / "runs" / "other", 1.5, {0: [write(root / "a", 0, {"square": ["text"]})]})
    model = callable_model(Counted, arguments={"notes": str(tmp_path / "notes"), "pause_s": 0.2})

    with pytest.raises(RunFailed, match="cannot take the output's files"):
        eksml.batch(
            model,
            str(root / "in"),
            root / "out",
            storage=root / "runs",
            table=table,
            workers=1,
            rows_per_file=20,
        )

    assert len(computed(tmp_path / "notes")) < 500


def test_a_catalog_that_does_not_answer_is_told(table: IcebergTable, root: URI) -> None:
    away = table.model_copy(update={"properties": {**table.properties, "uri": "sqlite:////no/db"}})

    with pytest.raises(StorageUnavailable, match=r"could not be added to shop\.labels"):
        away.add(root / "runs" / "r", 1.5, {0: [write(root, 0, {"n": [0]})]})
