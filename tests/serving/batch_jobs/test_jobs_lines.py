"""Cutting an input into lines and blocks, whatever its chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.serving.batch_jobs.lines import LineTooLong, blocks_of, lines_of
from eksml.serving.batch_jobs.worker import AT_ONCE, choose

BOM = b"\xef\xbb\xbf"
TEXTS = st.lists(
    (st.binary(max_size=20) | st.just(BOM)).map(lambda text: text.replace(b"\n", b"")), max_size=40
)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in at)})
    return [data[start:stop] for start, stop in pairwise(places)]


@given(TEXTS, st.lists(st.integers(0, 10_000)), st.booleans())
def test_lines_are_the_same_however_the_file_comes_in_chunks(
    texts: list[bytes], at: list[int], ends: bool
) -> None:
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    found = list(lines_of(cut(data, at), 100))
    plain = [(n, text.removeprefix(BOM)) for n, text in enumerate(data.split(b"\n"), 1)]
    assert [(line.number, line.text) for line in found] == [
        (n, text) for n, text in plain if text.strip()
    ]
    for line in found:
        assert data[line.start : line.stop].rstrip(b"\n").endswith(line.text)


@given(TEXTS, st.integers(1, 9))
def test_blocks_hold_every_line_once_and_in_order(texts: list[bytes], rows: int) -> None:
    data = b"\n".join(texts)
    whole = [line.text for line in lines_of([data], 100)]
    blocks = list(blocks_of(lines_of([data], 100), rows))
    parts = [list(lines_of([data[block.start : block.stop]], 100)) for block in blocks]
    assert [len(part) for part in parts] == [block.rows for block in blocks]
    assert [line.text for part in parts for line in part] == whole
    assert all(block.rows == rows for block in blocks[:-1])
    assert [block.index for block in blocks] == list(range(len(blocks)))


@pytest.mark.parametrize("data", [[b"a\n", b"x" * 101], [b"a\n" + b"x" * 101 + b"\nb\n"]])
def test_a_line_that_is_too_long_is_told_by_its_number(data: list[bytes]) -> None:
    with pytest.raises(LineTooLong) as caught:
        list(lines_of(data, 100))
    assert caught.value.number == 2


def test_a_tenant_without_a_batch_comes_first_and_needs_no_free_place() -> None:
    waiting = {"b1": "ann", "b2": "ann", "b3": "bob"}
    assert choose(waiting, []) == ["b1", "b3", "b2"]
    assert choose(waiting, ["ann"] * AT_ONCE) == ["b3"]
    assert choose(waiting, ["ann", "bob"]) == ["b1", "b3"]
    assert choose({}, []) == []
