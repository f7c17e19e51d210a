"""What the input of a batch run must be able to do. Each kind of file is one implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from eksml.batches.blocks import Piece

if TYPE_CHECKING:
    import pyarrow as pa

Unit = Literal["rows", "bytes", "files"]


@dataclass(frozen=True)
class Inventory:
    """What there is to read, found by listing files and reading no more than their footers."""

    pieces: tuple[Piece, ...]
    """All of it, in a stable order (files by name)."""
    schema: pa.Schema
    """Of the tables that ``read`` gives, without the columns of ``blocks.INTERNAL``."""
    unit: Unit
    """What ``start`` and ``stop`` of the pieces count. Pieces of rows and bytes may be cut
    anywhere, files stay whole."""
    units_per_row: float = 1.0
    """About how many units a row has: the mean length of a line, for bytes."""

    @property
    def files(self) -> int:
        """Number of input files."""
        return len({piece.file for piece in self.pieces})

    @property
    def rows(self) -> int | None:
        """Rows before any filter; None where only reading tells."""
        counts = [piece.rows for piece in self.pieces]
        return None if None in counts else sum(count for count in counts if count is not None)


class Source(Protocol):
    """This is the whole surface. A source is frozen, pickles, and holds no open file."""

    def describe(self) -> dict[str, Any]:
        """Itself as JSON, for records: ``{"kind": "parquet", "path": …}``. Two sources that
        describe themselves alike read alike."""

    def inventory(self) -> Inventory:
        """List what there is.

        Raises:
            InvalidSpec: Nothing there, a schema that differs between files, an unknown column, all
                problems at once.
            NotFound, AccessDenied, StorageUnavailable: The place cannot be read.
            MissingExtra: A library for this kind is not installed.
        """

    def learnt(self) -> str | None:
        """What the inventory found out and ``read`` needs, as text; None where it is nothing."""

    def remember(self, learnt: str | None) -> None:
        """Know what an inventory that was taken before found out, without taking it again."""

    def read(self, piece: Piece) -> pa.Table:
        """The rows of one piece in their order, with the columns FILE and PLACE (and ERROR where a
        row may be unreadable, which then has nulls) beside its own. Any thread of any process.

        Raises:
            Damaged: The file is not what was planned, or not what it should be.
            NotFound, AccessDenied, StorageUnavailable: It cannot be read.
        """
