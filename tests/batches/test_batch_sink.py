"""Output files: named by their block, one owner a folder, nothing twice."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from eksml.batches import error_table
from eksml.batches.blocks import ERROR, FILE, PLACE
from eksml.batches.ledger import Key
from eksml.batches.sink import CLAIM, Sink, claim, release
from eksml.errors import RunNameInUse
from eksml.storage import URI, arrow_filesystem

TABLE = pa.table({"lang": ["en", "de", None, "en"], "n": [1, 2, 3, 4]})


def read(folder: URI, **options) -> pa.Table:
    path, filesystem = arrow_filesystem(folder)
    return ds.dataset(path, filesystem=filesystem, **options).to_table()


def test_a_block_done_twice_is_there_once(root: URI) -> None:
    sink = Sink(root)
    sink.write(Key(0), TABLE)

    assert sink.write(Key(0), TABLE) == ("part-000000.parquet",)
    assert read(root).equals(TABLE)


def test_another_generation_adds_a_file(root: URI) -> None:
    sink = Sink(root)

    assert sink.write(Key(7), TABLE) == ("part-000007.parquet",)
    assert sink.write(Key(7, 1), TABLE) == ("part-000007-1.parquet",)
    assert read(root).num_rows == 8


def test_no_rows_make_no_file(root: URI) -> None:
    assert Sink(root).write(Key(0), TABLE.slice(0, 0)) == ()


def test_partitions_are_folders_that_readers_know(root: URI) -> None:
    files = Sink(root, partition_by=("lang",)).write(Key(1), TABLE)

    assert files == (
        "lang=__HIVE_DEFAULT_PARTITION__/part-000001.parquet",
        "lang=de/part-000001.parquet",
        "lang=en/part-000001.parquet",
    )
    table = read(root, partitioning="hive").sort_by("n")
    assert table.select(["n", "lang"]).to_pylist() == TABLE.select(["n", "lang"]).to_pylist()


def test_jsonl_is_a_row_a_line(root: URI) -> None:
    (name,) = Sink(root, format="jsonl").write(Key(0), TABLE)

    lines = (root / name).read_bytes().decode().splitlines()
    assert [json.loads(line) for line in lines] == TABLE.to_pylist()


def test_a_folder_has_one_run(root: URI) -> None:
    mine, other = root / "runs/mine", root / "runs/other"
    output = root / "output"

    assert claim(output, mine) is True
    assert claim(output, mine) is False
    with pytest.raises(RunNameInUse, match=r"runs/mine"):
        claim(output, other)

    release(output)
    assert claim(output, other) is True


def test_readers_do_not_see_the_claim(root: URI) -> None:
    claim(root / "output", root / "run")
    Sink(root / "output").write(Key(0), TABLE)

    assert (root / "output" / CLAIM).exists()
    assert read(root / "output").equals(TABLE)


def test_a_folder_with_files_of_others_is_refused(root: URI) -> None:
    (root / "output" / "precious.csv").write_bytes(b"a,b")

    with pytest.raises(RunNameInUse, match=r"precious\.csv"):
        claim(root / "output", root / "run")


def failed(*places: int) -> pa.Table:
    return pa.table(
        {
            FILE: pa.array(["/in/a"] * len(places), pa.string()).dictionary_encode(),
            PLACE: pa.array(places, pa.int64()),
            ERROR: pa.array([f"bad {place}" for place in places], pa.string()),
            "text": pa.array(["x"] * len(places), pa.string()),
            "image": pa.array([b""] * len(places), pa.binary()),
        }
    )


def test_failed_rows_keep_what_a_person_wants_to_see(root: URI) -> None:
    error_table.write(root, Key(0), failed(3, 5))

    table = error_table.read(root, Key(0))
    assert table is not None
    assert table.column_names == ["_file", "_place", "_error", "text"]
    assert error_table.places(root, Key(0)) == {("/in/a", 3), ("/in/a", 5)}


def test_a_later_try_replaces_what_failed_before(root: URI) -> None:
    error_table.write(root, Key(0), failed(3, 5))
    error_table.write(root, Key(0, 1), failed())
    error_table.forget_older(root, Key(0, 1))

    assert error_table.read(root, Key(0)) is None
    assert error_table.places(root, Key(0, 1)) == set()
