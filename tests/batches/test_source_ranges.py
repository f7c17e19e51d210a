"""No more is read than a piece asks for."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eksml.batches.blocks import PLACE, Piece, pack
from eksml.batches.sources import csv, jsonl, parquet, text
from eksml.batches.sources.row_groups import _IDLE, _idle
from eksml.errors import Damaged
from eksml.storage import URI, arrow_filesystem
from eksml.testing import FaultProxy, S3Server

ROWS = 20_000


@pytest.fixture
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"number": range(ROWS), "noise": rng.random((ROWS, 20)).tolist()})


def write(table: pa.Table, uri: URI) -> None:
    path, filesystem = arrow_filesystem(uri)
    pq.write_table(table, path, filesystem=filesystem, row_group_size=8_000)


def test_pieces_of_a_row_group_in_any_order_by_many_threads_are_right(
    tmp_path: Path, table: pa.Table
) -> None:
    write(table, URI.parse(tmp_path / "a.parquet"))
    source = parquet(tmp_path)
    blocks = list(pack(source.inventory().pieces, 333, splittable=True))
    random.Random(0).shuffle(blocks)
    with ThreadPoolExecutor(6) as pool:
        parts = list(pool.map(lambda block: source.read(block.pieces[0]), blocks))
    whole = pa.concat_tables(parts).sort_by("number")
    assert whole[PLACE].to_pylist() == whole["number"].to_pylist() == list(range(ROWS))
    assert whole["noise"].combine_chunks().equals(table["noise"].combine_chunks())
    assert len(_idle) <= _IDLE


def test_a_row_group_is_fetched_once_for_all_its_blocks(
    s3_server: S3Server, bucket: URI, table: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(table, bucket / "a.parquet")
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        source = parquet(str(bucket))
        pieces = source.inventory().pieces
        before = sum(seen.method == "GET" for seen in proxy.seen)
        blocks = list(pack(pieces, 100, splittable=True))
        rows = sum(source.read(piece).num_rows for block in blocks for piece in block.pieces)
        gets = sum(seen.method == "GET" for seen in proxy.seen) - before
        assert (rows, len(blocks)) == (ROWS, 200)
        assert gets <= 2 * 3  # the chunks of two columns, of three row groups


LINES = {text: b"line\n", jsonl: b'{"n": 1}\n', csv: b"n,t\n"}
LAST = {text: b"tail", jsonl: b'{"n": 2}', csv: b"2,b"}


def write_terabyte(path: Path, lines: bytes, last: bytes) -> int:
    """A file of some lines, a hole without a line break, and a last line; gives its size."""
    with path.open("wb") as file:
        file.write(lines)
        file.truncate(2**40)
        file.seek(0, 2)
        file.write(b"\n" + last)
        return file.tell()


@pytest.mark.parametrize("make", list(LINES))
def test_a_piece_of_a_file_larger_than_memory_is_read(tmp_path: Path, make) -> None:
    (tmp_path / "a.dat").write_bytes(LINES[make] + b"1,a" * (make is csv))
    path, last = tmp_path / "b.dat", LAST[make]
    header = LINES[make] if make is csv else b""
    body = b"3,c\n" if make is csv else LINES[make]
    hole = len(header + body * 20_000)
    size = write_terabyte(path, header + body * 20_000, last)
    source = make(tmp_path / "*.dat")
    piece = source.inventory().pieces[1]
    table = source.read(piece.split(size - len(last))[1])
    assert table[PLACE].to_pylist() == [size - len(last)]
    assert table.to_pylist()[0][table.column_names[0]] in ("tail", 2)
    with pytest.raises(Damaged, match="a line of more than"):
        source.read(Piece(str(path), size, hole - 1, hole + 1))


def test_requests_that_fail_are_made_again(
    s3_server: S3Server, bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket / "a.jsonl").write_bytes(b"".join(b'{"n": %d}\n' % n for n in range(500)))
    with FaultProxy(s3_server.endpoint, fail_503=0.2, reset=0.1, seed=2) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        source = jsonl(str(bucket))
        blocks = list(pack(source.inventory().pieces, 1_000, splittable=True))
        numbers = [n for block in blocks for n in source.read(block.pieces[0])["n"].to_pylist()]
        assert numbers == list(range(500))
        assert proxy.faults.total() > 0
