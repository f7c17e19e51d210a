"""Blocks: all units of all pieces once, in their order, in parts of about one size."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eksml.batches.blocks import Piece, pack

PIECES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 200)), max_size=20).map(
    lambda sizes: [
        Piece(f"file{index}", 1000, start, start + size, size)
        for index, (start, size) in enumerate(sizes)
    ]
)


def units(pieces) -> list[tuple[str, int]]:
    return [(piece.file, unit) for piece in pieces for unit in range(piece.start, piece.stop)]


@given(PIECES, st.floats(0.1, 300))
def test_pieces_that_may_be_cut_fill_blocks_to_the_unit(pieces: list[Piece], size: float) -> None:
    blocks = list(pack(pieces, size, splittable=True))
    assert units(piece for block in blocks for piece in block.pieces) == units(pieces)
    assert [block.index for block in blocks] == list(range(len(blocks)))
    counts = [block.rows for block in blocks]
    assert counts == [len(units(block.pieces)) for block in blocks]
    assert all(count == max(1, round(size)) for count in counts[:-1])
    assert all(0 < count <= max(1, round(size)) for count in counts[-1:])


@given(PIECES, st.floats(0.1, 10))
def test_pieces_that_stay_whole_are_joined(pieces: list[Piece], size: float) -> None:
    blocks = list(pack(pieces, size, splittable=False))
    assert [piece for block in blocks for piece in block.pieces] == pieces
    assert all(len(block.pieces) == max(1, round(size)) for block in blocks[:-1])


def test_rows_of_a_block_are_unknown_where_one_pieces_are() -> None:
    (block,) = pack([Piece("a", 9, 0, 9, 9), Piece("b", 9, 0, 9)], 100, splittable=True)
    assert block.rows is None
    assert Piece("b", 9, 0, 9).split(4) == (Piece("b", 9, 0, 4), Piece("b", 9, 4, 9))
