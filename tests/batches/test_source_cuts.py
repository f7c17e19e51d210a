"""The law of pieces: however a file is cut, its parts together are the whole, each row once."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from eksml.batches.blocks import ERROR, PLACE, Piece
from eksml.batches.sources import csv, huggingface, jsonl, parquet, text
from eksml.batches.sources.base import Source

FEW = settings(max_examples=40, deadline=None)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x00"), max_size=12)
CUTS = st.lists(st.floats(0, 1), max_size=6)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n \r\n"])


def cut(piece: Piece, shares: list[float]) -> list[Piece]:
    """The piece in parts, some of them empty."""
    parts, rest = [], piece
    for share in sorted(shares):
        head, rest = rest.split(piece.start + int(share * (piece.stop - piece.start)))
        parts.append(head)
    return [*parts, rest]


def assert_parts_are_the_whole(source: Source, shares: list[float]) -> pa.Table:
    """Reads the source's one file whole and in parts, and gives it whole."""
    pieces = source.inventory().pieces
    assert len(pieces) == 1
    whole = source.read(pieces[0])
    parts = pa.concat_tables([source.read(part) for part in cut(pieces[0], shares)])
    assert parts.to_pylist() == whole.to_pylist()
    places = whole[PLACE].to_pylist()
    assert places == sorted(set(places))
    return whole


@FEW
@given(rows=st.lists(WORDS, min_size=1, max_size=40), group=st.integers(1, 15), shares=CUTS)
def test_parquet(tmp_path_factory, rows: list[str], group: int, shares: list[float]) -> None:
    path = tmp_path_factory.mktemp("cuts") / "a.parquet"
    table = pa.table({"text": rows, "number": range(len(rows))})
    pq.write_table(table, path, row_group_size=group)
    whole = assert_parts_are_the_whole(parquet(path), shares)
    assert whole.select(["text", "number"]) == table
    assert whole[PLACE].to_pylist() == list(range(len(rows)))


@FEW
@given(
    rows=st.lists(st.tuples(st.one_of(st.integers(-9, 9), st.just("bad")), WORDS), min_size=1),
    end=ENDS,
    last=st.booleans(),
    mark=st.booleans(),
    shares=CUTS,
)
def test_json_lines(tmp_path_factory, rows, end: str, last: bool, mark: bool, shares) -> None:
    path = tmp_path_factory.mktemp("cuts") / "a.jsonl"
    good = {"number": 1, "text": "x"}
    objects = [good, *({"number": number, "text": word} for number, word in rows)]
    lines = [json.dumps(each, ensure_ascii=False) for each in objects]
    data = end.join(lines) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + data.encode())
    whole = assert_parts_are_the_whole(jsonl(path), shares)
    assert whole.num_rows == len(objects)
    for row, written in zip(whole.to_pylist(), objects, strict=True):
        if written["number"] == "bad":
            assert row["text"] is None
            assert "number to string" in row[ERROR]
        else:
            assert {"number": row["number"], "text": row["text"]} == written


@FEW
@given(
    rows=st.lists(st.tuples(st.integers(-9, 9), WORDS), min_size=1, max_size=30),
    end=ENDS,
    last=st.booleans(),
    mark=st.booleans(),
    shares=CUTS,
)
def test_csv(tmp_path_factory, rows, end: str, last: bool, mark: bool, shares) -> None:
    path = tmp_path_factory.mktemp("cuts") / "a.csv"
    quoted = [(number, "w" + word.replace('"', '""')) for number, word in rows]
    lines = ["number,text", *(f'{number},"{word}"' for number, word in quoted)]
    data = end.join(lines) + (end if last else "")
    path.write_bytes((b"\xef\xbb\xbf" if mark else b"") + data.encode())
    whole = assert_parts_are_the_whole(csv(path), shares)
    assert whole[ERROR].null_count == len(rows)
    assert whole["number"].to_pylist() == [number for number, _ in rows]
    assert whole["text"].to_pylist() == ["w" + word for _, word in rows]


@FEW
@given(rows=st.lists(WORDS, min_size=1), end=ENDS, last=st.booleans(), shares=CUTS)
def test_text(tmp_path_factory, rows: list[str], end: str, last: bool, shares) -> None:
    path = tmp_path_factory.mktemp("cuts") / "a.txt"
    data = "first" + end + end.join(rows) + (end if last else "")
    path.write_bytes(data.encode())
    whole = assert_parts_are_the_whole(text(path), shares)
    *ended, rest = data.split("\n")
    lines = [line.removesuffix("\r") for line in ended]
    assert whole["text"].to_pylist() == lines + [rest] * bool(rest)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), shares=CUTS)
def test_hugging_face(tmp_path_factory, sizes: list[int], shares: list[float]) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    table = pa.table({"number": range(sum(sizes))})
    with pa.ipc.new_stream(folder / "data.arrow", table.schema) as writer:
        first = 0
        for size in sizes:
            writer.write_table(table.slice(first, size))
            first += size
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    whole = assert_parts_are_the_whole(huggingface(folder), shares)
    assert whole["number"].to_pylist() == whole[PLACE].to_pylist() == list(range(sum(sizes)))
