"""Whether a column is unique is found out, and what comes twice is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eksml.batches.sources import check_unique, jsonl, parquet
from eksml.errors import InvalidSpec


def check(path: Path, column: str, **arguments: Any) -> None:
    source = parquet(path, **arguments)
    check_unique(source, source.inventory(), column)


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path, row_group_size=10_000)


def test_a_unique_column_passes(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", id=range(50_000), name=[f"n{index}" for index in range(50_000)])
    write(
        tmp_path / "b.parquet", id=range(50_000, 50_010), name=[f"m{index}" for index in range(10)]
    )
    check(tmp_path, "id")
    check(tmp_path, "name")


def test_up_to_three_values_that_come_twice_are_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", id=[*range(20_000), 7, 8], name=["x", *map(str, range(20_001))])
    write(tmp_path / "b.parquet", id=[9, 10], name=["x", "y"])
    with pytest.raises(
        InvalidSpec, match=r"id_column: the column 'id' is not unique: \d+, \d+, \d+"
    ):
        check(tmp_path, "id")
    with pytest.raises(InvalidSpec, match="'name' is not unique: 'x' come"):
        check(tmp_path, "name")
    check(tmp_path, "id", filter=[("id", ">", 10)])


def test_an_unknown_column_is_told_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", id=[1])
    with pytest.raises(InvalidSpec, match="Did you mean 'id'"):
        check(tmp_path, "idd")


def test_nulls_that_come_twice_are_not_unique_and_bad_rows_do_not_count(tmp_path: Path) -> None:
    lines = [json.dumps({"id": value}) for value in (1, 2, "bad", "bad", 3)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = jsonl(tmp_path)
    check_unique(source, source.inventory(), "id")
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"id": null}', "{}"]))
    source = jsonl(tmp_path)
    with pytest.raises(InvalidSpec, match="is not unique: None"):
        check_unique(source, source.inventory(), "id")
