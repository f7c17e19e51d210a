"""Whether a column's values are unique, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import ERROR, Piece, pack
from eksml.batches.sources.base import Inventory, Source
from eksml.batches.sources.schemas import check_columns
from eksml.batches.sources.selected import Selected
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_UNITS = {"rows": 500_000, "bytes": 2**26, "files": 1}
"""What is read at a time."""
_THREADS = 4


def check_unique(source: Source, inventory: Inventory, column: str) -> None:
    """Read one column of all input and look for values that come twice.

    Takes 16 bytes of memory a row, and four parts of half a million rows or 64 MB. Rows that
    cannot be read do not count.

    Raises:
        InvalidSpec: There is no such column, or it has nulls or values that come twice: up to
            three of them are named.
        Damaged, NotFound, AccessDenied, StorageUnavailable: The input cannot be read.
    """
    import numpy as np

    if problems := check_columns(inventory.schema.names, [column], "id_column"):
        raise InvalidSpec(problems, "the input")
    hashes = np.concatenate([_hashes(part) for part in _columns(source, inventory, column)])
    hashes.sort()
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    if not len(twice):
        return
    # Two values may have one hash: only what is the same itself counts
    counts = Counter[Any]()
    for part in _columns(source, inventory, column):
        counts.update(part.filter(np.isin(_hashes(part), twice)).to_pylist())
    found = [value for value, count in counts.most_common(3) if count > 1]
    if found:
        told = f"the column {column!r} is not unique: {', '.join(map(repr, found))} come twice."
        remedy = "Make the values unique, or leave the column out: rows need no ids."
        raise InvalidSpec([Problem("id_column", told, remedy)], "the input")


def _columns(source: Source, inventory: Inventory, column: str) -> Iterator[pa.ChunkedArray]:
    """The column in parts, read ahead by some threads."""
    if isinstance(source, Selected):
        source = source.model_copy(update={"columns": (column,)})
    unit = inventory.unit
    blocks = pack(inventory.pieces, _UNITS[unit], splittable=unit != "files")
    pieces = [piece for block in blocks for piece in block.pieces]

    def read(piece: Piece) -> pa.ChunkedArray:
        table = source.read(piece)
        if ERROR in table.column_names:
            table = table.filter(table.column(ERROR).is_null())
        return table.column(column)

    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(pieces), _THREADS):
            yield from pool.map(read, pieces[first : first + _THREADS])


def _hashes(values: pa.ChunkedArray) -> np.ndarray:
    from pandas.util import hash_array

    found: np.ndarray = hash_array(values.to_numpy(), categorize=False)
    return found
