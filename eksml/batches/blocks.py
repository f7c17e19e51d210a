"""The unit of work and of commit: a block is some rows of the input, and one file of the output.

Blocks are planned once, when a run begins, and kept in its folder. A row is known by the file that
it came from and its place there, so rows need no ids, and a run that is started again finds the
same blocks however many workers it has now.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

FILE = "__eksml_file__"
"""Column that sources add: the file that a row came from (dictionary of string)."""
PLACE = "__eksml_place__"
"""Column that sources add: the row's place in its file (int64): number of the row for Parquet and
Arrow files, first byte for files of lines, number of the chunk or 0 for whole files."""
ERROR = "__eksml_error__"
"""Column that sources may add: why a row could not be read (string, null where it could)."""
INTERNAL = (FILE, PLACE, ERROR)


@dataclass(frozen=True)
class Piece:
    """A part of one input file."""

    file: str
    """The file's URI."""
    size: int
    """Bytes of the whole file when the run was planned: a file of another size has changed."""
    start: int = 0
    """First row, or first byte for files of lines."""
    stop: int = 1
    """End of it, exclusive, in the same unit. A line belongs to the piece in which it begins."""
    rows: int | None = None
    """How many rows that is, before any filter; None where only reading tells (lines)."""

    def split(self, at: int) -> tuple[Piece, Piece]:
        """The part before ``at`` and the part from it on; rows are counted where they are units."""
        first, second = replace(self, stop=at), replace(self, start=at)
        if self.rows is None:
            return first, second
        return replace(first, rows=at - self.start), replace(second, rows=self.stop - at)


@dataclass(frozen=True)
class Block:
    """Rows that are computed, written and committed together."""

    index: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int | None:
        """Rows before any filter; None where only reading tells."""
        counts = [piece.rows for piece in self.pieces]
        return None if None in counts else sum(count for count in counts if count is not None)


def pack(
    pieces: Iterable[Piece], units_per_block: float, *, splittable: bool, whole_unit: float = 1.0
) -> Iterator[Block]:
    """Cut and join pieces, in their order, into blocks of about equal size.

    Args:
        pieces: As a source lists them.
        units_per_block: Size of a block in the pieces' unit (rows, or bytes for lines).
        splittable: Whether a piece may be cut anywhere; else pieces stay whole.
        whole_unit: What a piece that stays whole counts for, in the same unit.
    """
    limit = max(1, round(units_per_block))
    index, waiting, room = 0, list[Piece](), float(limit)
    for piece in pieces:
        rest: Piece | None = piece
        while rest is not None:
            size = rest.stop - rest.start if splittable else whole_unit
            if splittable and size > room:
                head, rest = rest.split(rest.start + int(room))
                waiting.append(head)
                room = 0
            else:
                waiting.append(rest)
                room, rest = room - size, None
            if room < 1:
                yield Block(index, tuple(waiting))
                index, waiting, room = index + 1, [], float(limit)
    if waiting:
        yield Block(index, tuple(waiting))
