"""Parquet files, alone or in folders, also partitioned as Hive and Spark write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.batches.blocks import Piece
from eksml.batches.sources import partitions
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Paths
from eksml.batches.sources.filters import Conditions
from eksml.batches.sources.parallel import look_into
from eksml.batches.sources.parquet_rows import footer, may_pass, rows_of
from eksml.batches.sources.schemas import plain
from eksml.batches.sources.selected import Selected
from eksml.errors import InvalidSpec, Problem
from eksml.storage import Stat

if TYPE_CHECKING:
    import pyarrow as pa


def parquet(
    path: Paths, columns: Sequence[str] | None = None, filter: Conditions | None = None
) -> Parquet:
    """Rows of Parquet files.

    Row groups that their statistics rule out are not read, nor are columns that nobody asked for.
    Folders named ``key=value``, anywhere on the path, are columns.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        columns: Those to read; all if None.
        filter: Conditions, as ``filters`` describes: ``[("lang", "=", "en"), ("words", ">", 3)]``.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Parquet(**dict[str, Any](path=path, columns=columns, filter=filter))


class Parquet(Selected):
    """See ``parquet``."""

    kind: ClassVar[str] = "parquet"
    endings: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def inventory(self) -> Inventory:
        """Reads the footers, sixteen at a time. Files that cannot hold a row that passes the
        filter are not in it."""
        files = self.files()
        outside = partitions.types_of(str(file.uri) for file in files)
        schemas = look_into(files, lambda file: (str(file.uri), _schema(file, outside)))
        schema = self.choose(schemas)
        pieces = look_into(files, lambda file: piece_of(file, self._types, self.filter))
        return Inventory(some(pieces, self), schema, "rows")

    def read(self, piece: Piece) -> pa.Table:
        return self.hand_over(rows_of(piece, self.types(), self.filter))


def piece_of(file: Stat, types: pa.Schema, filter: Any) -> Piece:
    """All rows of a file, or none where none can pass the filter."""
    found = footer(str(file.uri), file.size)
    rows = found.metadata.num_rows if may_pass(found, types, filter, str(file.uri)) else 0
    return Piece(str(file.uri), file.size, 0, rows, rows)


def some(pieces: Sequence[Piece], source: Selected) -> tuple[Piece, ...]:
    """The pieces with rows.

    Raises:
        InvalidSpec: There are none.
    """
    kept = tuple(piece for piece in pieces if piece.rows)
    if kept:
        return kept
    told = "no file has a row." if source.filter is None else "no row can pass the filter."
    raise InvalidSpec([Problem("path", told, "Check the path and the filter.")], "the input")


def _schema(file: Stat, outside: dict[str, Any]) -> pa.Schema:
    """A file's columns, and behind them those that its folders name."""
    import pyarrow as pa

    own = plain(footer(str(file.uri), file.size).physical_schema)
    named = [name for name in partitions.values_of(str(file.uri)) if name not in own.names]
    return pa.schema([*own, *(pa.field(name, outside[name]) for name in named)])
