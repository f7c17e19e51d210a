"""What cannot be read, told before anything starts, or as a row with an error."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import everything

from eksml.batches.blocks import ERROR, PLACE
from eksml.batches.sources import (
    audio,
    csv,
    documents,
    huggingface,
    images,
    jsonl,
    parquet,
    source_of,
    text,
)  # fmt: skip
from eksml.batches.sources.base import Source
from eksml.errors import Damaged, InvalidSpec, NotFound
from eksml.storage import URI


def problems(source: Source | Any) -> str:
    with pytest.raises(InvalidSpec) as caught:
        source.inventory() if hasattr(source, "inventory") else source()
    return str(caught.value)


def write(folder: Path, **tables: dict[str, Any]) -> Path:
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


def test_a_column_that_changes_its_type_is_told_with_file_and_types(tmp_path: Path) -> None:
    write(
        tmp_path, a={"x": [1], "y": ["a"]}, b={"x": ["1"], "y": ["b"]}, c={"x": [1.5], "y": [b""]}
    )
    told = problems(parquet(tmp_path))
    assert f"b.parquet: the column 'x' is string, but int64 in {tmp_path}/a.parquet" in told
    assert "c.parquet: the column 'x' is double, but int64" in told
    assert "c.parquet: the column 'y' is binary, but string" in told
    assert "3 problems" in told


def test_a_column_that_nobody_reads_may_change(tmp_path: Path) -> None:
    write(tmp_path, a={"x": [1], "y": [1]}, b={"x": ["1"], "y": [2]}, c={"y": [3]})
    assert everything(parquet(tmp_path, columns=["y"]))["y"].to_pylist() == [1, 2, 3]


def test_a_column_that_a_file_lacks_or_adds_is_told(tmp_path: Path) -> None:
    write(tmp_path, a={"x": [1], "y": [1]}, b={"x": [1], "z": [1]})
    told = problems(parquet(tmp_path))
    assert "b.parquet: has no column 'y'" in told
    assert "b.parquet: has a column 'z'" in told


def test_narrow_numbers_and_nulls_take_the_wider_type(tmp_path: Path) -> None:
    write(
        tmp_path,
        a={"x": pa.array([1], pa.int32()), "y": pa.nulls(1), "z": pa.array([["a"]])},
        b={"x": [2**40], "y": ["b"], "z": pa.array([[]], pa.list_(pa.null()))},
        c={"x": [3], "y": pa.array(["c"]).dictionary_encode(), "z": pa.array([["c"]])},
    )
    assert everything(parquet(tmp_path)).select(["x", "y", "z"]).to_pydict() == {
        "x": [1, 2**40, 3],
        "y": [None, "b", "c"],
        "z": [["a"], [], ["c"]],
    }


@pytest.mark.parametrize("make", [parquet, jsonl, csv])
def test_unknown_columns_are_told_with_the_nearest(tmp_path: Path, make: Any) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "x", "words": 1}')
    (tmp_path / "a.csv").write_text("prompt,words\nx,1")
    write(tmp_path, a={"prompt": ["x"], "words": [1]})
    told = problems(make(tmp_path, columns=["promt"], filter=[("word", ">", 3)]))
    assert "columns: there is no column 'promt'. Did you mean 'prompt'?" in told
    assert "filter: there is no column 'word'. Did you mean 'words'?" in told
    told = problems(make(tmp_path, filter=[("words", ">", "many")]))
    assert "'words' is int64, which cannot be compared with 'many'" in told


def test_every_wrong_argument_is_told_at_once() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parquet(
            "gs://there",
            columns=[],
            filter=[("a", "~", 1), ("b", "in", 3), ("c",), ("d", "=", None)],
        )
    told = str(caught.value)
    for part in (
        "scheme gs://",
        "no list of columns",
        "'~' is no operator",
        "needs a list of values",
    ):
        assert part in told
    assert "('c',) is no condition" in told
    assert "None is no value to compare with" in told
    with pytest.raises(InvalidSpec, match="size"):
        images("x", size=(0, 5))
    with pytest.raises(InvalidSpec, match="more than half of chunk_chars=100"):
        documents("x", chunk_chars=100, overlap_chars=60)


@pytest.mark.parametrize(
    "make", [parquet, jsonl, csv, text, images, audio, documents, huggingface, source_of]
)
def test_a_path_to_nothing_is_told(root: URI, make: Any) -> None:
    if root.scheme == "s3":
        (root.parent / "other").write_bytes(b"")
    assert "there is no" in problems(lambda: make(str(root)).inventory())


def test_files_without_anything_in_them_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    assert "are empty" in problems(csv(tmp_path))
    (tmp_path / "a.csv").write_text("x,y\r\n")
    assert "no file has a row" in problems(csv(tmp_path))
    write(tmp_path, a={"x": pa.array([], pa.int64())})
    assert "no file has a row" in problems(parquet(tmp_path))


def test_a_folder_without_files_of_the_kind_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("x")
    assert "there are 1 with .dat" in problems(parquet(tmp_path))
    assert everything(text(tmp_path / "*.dat"))["text"].to_pylist() == ["x"]


def test_kinds_that_are_mixed_or_unknown_are_told_with_the_choices(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1")
    (tmp_path / "a.jsonl").write_text('{"x": 1}')
    told = problems(lambda: source_of(tmp_path))
    assert "1 .csv, 1 .jsonl" in told
    assert "eksml.batches.parquet(…)" in told
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.dat").write_text("")
    assert "1 .dat" in problems(lambda: source_of(tmp_path / "b"))
    assert "no path or source" in problems(lambda: source_of(5))  # type: ignore[arg-type]


def test_what_is_no_parquet_is_told_by_name(tmp_path: Path) -> None:
    write(tmp_path, a={"x": [1]})
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    assert "b.parquet: is not what it should be" in problems(parquet(tmp_path))


def test_names_of_eksmls_own_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a={"__eksml_place__": [1]})
    assert "a name of eksml's own" in problems(parquet(tmp_path))
    (tmp_path / "a.csv").write_text("x,x\n1,2")
    assert "has 2 columns 'x'" in problems(csv(tmp_path))


def test_a_file_that_is_gone_is_not_found(root: URI) -> None:
    (root / "a.txt").write_bytes(b"x")
    source = text(str(root))
    (piece,) = source.inventory().pieces
    (root / "a.txt").delete()
    with pytest.raises(NotFound, match="There is no file"):
        source.read(piece)


def test_bytes_that_were_changed_inside_are_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, a={"x": [f"{index:09}" for index in range(5000)]}) / "a.parquet"
    source = parquet(tmp_path)
    (piece,) = source.inventory().pieces
    data = bytearray(path.read_bytes())
    data[20:4000] = bytes(3980)
    path.write_bytes(data)
    with pytest.raises(Damaged, match="is not what it should be"):
        source.read(piece)
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(b"line\n" * 1000)[:-12])
    with pytest.raises(Damaged, match="is not what it should be"):
        everything(text(packed))


def test_lines_that_are_no_objects_or_do_not_fit_are_rows_with_errors(tmp_path: Path) -> None:
    lines = [b'{"n": 1, "t": "a"}', b'{"n": "x"}', b'{"n": 2', b"[1]", b'{"n": 1}{"n": 2}', b"7"]
    lines += [b'{"n": 3, "t": "\xff"}', b' {"n": 4, "t": null} ', b'{"n": 1.5}', b'{"t": 5}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    table = everything(jsonl(tmp_path, filter=[("n", ">=", 0)]))
    assert table["n"].to_pylist() == [1.0, None, None, None, None, None, None, 4.0, 1.5, None]
    errors = table[ERROR].to_pylist()
    assert [error is None for error in errors] == [True, *[False] * 6, True, True, False]
    assert "number to string" in errors[1]
    assert "2 rows in one line" in errors[4]
    assert "UTF8" in errors[6]


def test_a_key_that_comes_late_is_an_error_unless_columns_are_chosen(tmp_path: Path) -> None:
    line = '{"n": 1, "t": "' + "x" * 1000 + '"}\n'
    (tmp_path / "a.jsonl").write_text(line * 1100 + '{"n": 2, "late": true}\n')
    table = everything(jsonl(tmp_path))
    assert table.num_rows == 1101
    assert "the keys 'late'" in table[ERROR][-1].as_py()
    assert table[ERROR].null_count == 1100
    assert everything(jsonl(tmp_path, columns=["n"]))["n"][-1].as_py() == 2


def test_rows_with_the_wrong_fields_are_rows_with_errors(tmp_path: Path) -> None:
    rows = b'1,x\n2\n3,y,z\nq,u\n4,\xff\n5,"a ""b"""\n'
    (tmp_path / "a.csv").write_bytes(b"n,t\n" + b"1,fits\n" * 200_000 + rows)
    table = everything(csv(tmp_path)).slice(200_000)
    assert table["n"].to_pylist() == [1, None, None, None, None, 5]
    assert table["t"].to_pylist() == ["x", None, None, None, None, 'a "b"']
    errors = table[ERROR].to_pylist()
    assert "Expected 2 columns, got 1" in errors[1]
    assert "Expected 2 columns, got 3" in errors[2]
    assert "invalid value 'q'" in errors[3]
    assert "UTF8" in errors[4]
    assert table[PLACE].to_pylist()[:2] == [1_400_004, 1_400_008]


def test_line_breaks_inside_of_quotes_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('n,t\n1,"a\nb"\n')
    told = problems(csv(tmp_path))
    assert "the line at byte 4 cannot be read" in told
    assert "odd number of quotes" in told
    (tmp_path / "a.csv").write_text("n,t\n" + "1,fits\n" * 200_000 + '1,"a\nb"\n')
    errors = everything(csv(tmp_path))[ERROR].to_pylist()[200_000:]
    assert ["odd number of quotes" in error for error in errors] == [True, True]


def test_a_json_array_says_how_to_make_lines_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[\n{"x": 1}\n]')
    assert "jq -c '.[]'" in problems(jsonl(tmp_path))
    (tmp_path / "a.json").write_text("plain\n")
    assert "no line that is a JSON object" in problems(jsonl(tmp_path))


def test_json_that_changes_between_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1, "day": "2024-01-01"}\n')
    (tmp_path / "b.jsonl").write_text('{"x": "one"}\n')
    assert "the column 'x' is string, but int64" in problems(jsonl(tmp_path))
    (tmp_path / "b.jsonl").write_text('{"x": 1.5, "day": "someday", "new": null}\n')
    table = everything(jsonl(tmp_path))
    assert table["x"].to_pylist() == [1.0, 1.5]
    assert table["day"].to_pylist() == ["2024-01-01", "someday"]
    assert table["new"].type == pa.string()


def test_compressed_and_plain_files_are_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"x"))
    assert "1 of 2 files are compressed" in problems(text(tmp_path))


def test_files_that_cannot_be_decoded_are_rows_with_errors(tmp_path: Path) -> None:
    for name in ("a.png", "a.wav", "a.pdf", "a.txt"):
        (tmp_path / name).write_bytes(b"\xff no such thing")
    (tmp_path / "b.txt").write_text(" \n")
    for source in (images(tmp_path), audio(tmp_path), documents(tmp_path)):
        table = everything(source)
        assert table[ERROR].null_count == 0
        assert " at 0x" not in str(table[ERROR].to_pylist())
    assert "holds no text" in table[ERROR][2].as_py()
    assert table.column_names[:4] == ["path", "page", "chunk", "text"]


def test_splits_of_a_dataset_are_named(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert f"{tmp_path}/train, {tmp_path}/test" in problems(source_of(tmp_path))
