"""Filters and columns: the same rows as pandas keeps, at the same places, and less is read."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import everything

from eksml.batches.blocks import PLACE
from eksml.batches.sources import csv, jsonl, parquet
from eksml.batches.sources.base import Source
from eksml.batches.sources.parquet_rows import footer, may_pass
from eksml.errors import InvalidSpec

FRAME = pd.DataFrame(
    {
        "number": range(100),
        "share": [index / 7 for index in range(100)],
        "lang": ["en", "de", "fr", "it"] * 25,
        "even": [index % 2 == 0 for index in range(100)],
    }
)
FILTERS: list[tuple[Any, str]] = [
    ([("number", ">", 41)], "number > 41"),
    ([("number", "<=", 3.5), ("even", "=", True)], "number <= 3.5 and even"),
    ([("lang", "in", ["de", "it"]), ("share", "<", 5)], "lang in ['de', 'it'] and share < 5"),
    ([[("lang", "==", "fr")], [("number", ">=", 90)]], "lang == 'fr' or number >= 90"),
    (
        [("lang", "not in", ("de", "it")), ("number", "!=", 4)],
        "lang in ['en', 'fr'] and number != 4",
    ),
    ([("number", "=", 17)], "number == 17"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pq.write_table(pa.Table.from_pandas(FRAME), tmp_path / "a.parquet", row_group_size=10)
    FRAME.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(("filter", "query"), FILTERS, ids=[query for _, query in FILTERS])
@pytest.mark.parametrize("source", [parquet, jsonl, csv])
def test_a_filter_keeps_what_pandas_keeps(folder: Path, source, filter: Any, query: str) -> None:
    kept = FRAME.query(query)
    table = everything(source(folder, columns=["share"], filter=filter))
    assert table["share"].to_pylist() == pytest.approx(kept["share"].tolist(), rel=1e-9)
    assert table.column_names[0] == "share"
    assert "lang" not in table.column_names


def test_a_place_is_the_rows_number_in_its_file_whatever_is_filtered(folder: Path) -> None:
    table = everything(parquet(folder, columns=["share"], filter=[("lang", "=", "it")]))
    assert table[PLACE].to_pylist() == FRAME.query("lang == 'it'")["number"].tolist()


def test_row_groups_that_statistics_rule_out_are_not_read(folder: Path) -> None:
    source = parquet(
        folder, filter=[[("number", "<", 5)], [("number", ">", 72), ("even", "=", True)]]
    )
    (piece,) = source.inventory().pieces
    found = footer(piece.file, piece.size)
    assert may_pass(found, source.types(), source.filter, piece.file) == [0, 7, 8, 9]


def test_folders_rule_out_their_files(tmp_path: Path) -> None:
    for day, lang in [("1", "en"), ("2", "en"), ("2", "a b"), ("__HIVE_DEFAULT_PARTITION__", "en")]:
        folder = tmp_path / f"day={day}" / f"lang={lang.replace(' ', '%20')}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"number": [1, 2]}), folder / "a.parquet")
    every = parquet(tmp_path).inventory()
    assert every.schema == pa.schema([("number", "int64"), ("day", "int64"), ("lang", "string")])
    source = parquet(tmp_path, filter=[("day", "=", 2), ("number", ">", 1)])
    assert len(source.inventory().pieces) == 2
    rows = everything(source).select(["number", "day", "lang"]).to_pylist()
    assert rows == [{"number": 2, "day": 2, "lang": lang} for lang in ("a b", "en")]
    nulls = everything(parquet(tmp_path, columns=["day"]))["day"]
    assert nulls.null_count == 2


def test_columns_of_folders_alone_are_read(tmp_path: Path) -> None:
    (tmp_path / "day=3").mkdir()
    pq.write_table(pa.table({"number": [1, 2]}), tmp_path / "day=3" / "a.parquet")
    assert everything(parquet(tmp_path, columns=["day"]))["day"].to_pylist() == [3, 3]


def test_dates_and_times_can_be_compared(tmp_path: Path) -> None:
    days = [date(2024, 1, day) for day in (1, 2, 3)]
    times = [datetime(2024, 1, day, 12) for day in (1, 2, 3)]
    pq.write_table(pa.table({"day": days, "time": times}), tmp_path / "a.parquet")
    filter: Any = [("day", ">", date(2024, 1, 1)), ("time", "<", datetime(2024, 1, 3))]
    source = parquet(tmp_path, filter=filter)
    assert everything(source)[PLACE].to_pylist() == [1]
    assert source.describe()["filter"] == [
        [["day", ">", "2024-01-01"], ["time", "<", "2024-01-03T00:00:00"]]
    ]


def test_columns_come_in_the_order_asked_for(folder: Path) -> None:
    for source in (parquet, jsonl, csv):
        asked: Source = source(folder, columns=["lang", "number"])
        assert asked.inventory().schema.names == ["lang", "number"]
        assert everything(asked).column_names[:2] == ["lang", "number"]


def test_a_filter_that_nothing_can_pass_is_told(folder: Path) -> None:
    with pytest.raises(InvalidSpec, match="no row can pass the filter"):
        parquet(folder, filter=[("number", ">", 1000)]).inventory()
