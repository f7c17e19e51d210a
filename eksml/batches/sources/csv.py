"""CSV files: commas, double quotes, and the columns' names in the first line."""

from __future__ import annotations

import csv as standard
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Paths
from eksml.batches.sources.filters import Conditions
from eksml.batches.sources.line_rows import Unreadable, schema_of, table_of
from eksml.batches.sources.lines import (
    FIRST_SAMPLE,
    SAMPLE,
    Lines,
    check_compression,
    codec_of,
    inventory_of,
    lines_of,
    sample_of,
)
from eksml.batches.sources.parallel import look_into
from eksml.batches.sources.schemas import check_names
from eksml.batches.sources.selected import Selected
from eksml.errors import InvalidSpec, Problem
from eksml.storage import URI, Stat

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_BLOCK = 2**20
_HEADERS = 4096
_QUOTED = "It has an odd number of quotes: values with a line break inside cannot be read."


def csv(path: Paths, columns: Sequence[str] | None = None, filter: Conditions | None = None) -> Csv:
    """Rows of CSV files, also compressed as ``.gz`` or ``.zst`` (then a file is read whole).

    Each file's first line names its columns. Files are read in parts, so that a value may not have
    a line break in it, quoted or not: such lines are rows with an error, as are those with another
    number of fields or a value of another type. Types are those of the first megabyte of the first
    file and the first 64 KB of each other one; dates stay text.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        columns: Those to read; all if None.
        filter: Conditions, as ``filters`` describes. Rows with an error pass.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Csv(**dict[str, Any](path=path, columns=columns, filter=filter))


class Csv(Selected):
    """See ``csv``."""

    kind: ClassVar[str] = "csv"
    endings: ClassVar[tuple[str, ...]] = (".csv", ".csv.gz", ".csv.zst")

    def inventory(self) -> Inventory:
        """Reads the beginnings of all files, sixteen at a time."""
        files = self.files()
        check_compression(files)
        first = sample_of(files[0], FIRST_SAMPLE)
        rest = look_into(files[1:], lambda file: _seen(file, sample_of(file, SAMPLE)))
        seen = [_seen(files[0], first), *rest]
        schemas = [(file, schema) for file, schema, _ in seen]
        schema = self.choose(schemas, guessed=True)
        begins = [begin for _, _, begin in seen]
        return inventory_of(files, schema, first.part(1, len(first)), begins)

    def read(self, piece: Piece) -> pa.Table:
        types, names = self.types(), list(_header(piece.file, piece.size))
        lines = lines_of(piece, empty=False)
        if codec_of(piece.file):
            lines = lines.part(1, len(lines))
        table = table_of(piece.file, lines, types, lambda part: _parse(part, names, types))
        return self.hand_over(table)


@functools.lru_cache(maxsize=_HEADERS)
def _header(file: str, size: int) -> tuple[str, ...]:
    return _names(sample_of(Stat(URI.parse(file), size, 0.0), 1))


def _seen(file: Stat, lines: Lines) -> tuple[str, pa.Schema, int]:
    """A file's name, its columns, and where its first row begins."""
    import pyarrow as pa

    try:
        names, rows = list(_names(lines)), lines.part(1, len(lines))
        if problems := check_names(str(file.uri), names):
            raise InvalidSpec(problems, "the input")
        quotes = _odd(rows)
        if quotes.any():
            place = rows.places[int(quotes.argmax())]
            raise Unreadable(f"the line at byte {place} cannot be read. {_QUOTED}")
        guessed = schema_of(rows, lambda part: _csv(part, names).schema) if len(rows) else None
    except Unreadable as error:
        raise InvalidSpec([Problem(str(file.uri), str(error))], "the input") from error
    schema = guessed or pa.schema([(name, pa.null()) for name in names])
    return str(file.uri), schema, int(rows.places[0]) if len(rows) else file.size


def _names(lines: Lines) -> tuple[str, ...]:
    if not len(lines):
        raise Unreadable("has no line with the columns' names.")
    if _odd(lines.part(0, 1)).any():
        raise Unreadable(f"the first line cannot be read. {_QUOTED}")
    try:
        return tuple(next(standard.reader([bytes(lines.part(0, 1).text).decode()])))
    except (UnicodeDecodeError, standard.Error) as error:
        raise Unreadable(f"the first line cannot be read: {error}.") from error


def _odd(lines: Lines) -> np.ndarray:
    """Which lines have an odd number of quotes."""
    import numpy as np

    quotes = np.flatnonzero(np.frombuffer(lines.data, np.uint8) == ord('"'))
    counts = quotes.searchsorted(lines.ends) - quotes.searchsorted(lines.begins)
    odd: np.ndarray = counts % 2 == 1
    return odd


def _parse(lines: Lines, names: list[str], types: pa.Schema) -> pa.Table:
    if _odd(lines).any():
        raise Unreadable(_QUOTED)
    return _csv(lines, names, types)


def _csv(lines: Lines, names: list[str], types: pa.Schema | None = None) -> pa.Table:
    import pyarrow as pa
    from pyarrow.csv import ConvertOptions, ReadOptions, read_csv

    read = ReadOptions(column_names=names, block_size=max(_BLOCK, 2 * lines.longest))
    convert = None
    if types is not None:
        convert = ConvertOptions(column_types=types, include_columns=types.names)
    return read_csv(pa.BufferReader(lines.text), read, convert_options=convert)
