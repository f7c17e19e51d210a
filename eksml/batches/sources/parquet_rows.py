"""Reading a range of rows of one Parquet file: no more row groups and columns than it takes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import Piece
from eksml.batches.sources import partitions
from eksml.batches.sources.filters import expression_of
from eksml.batches.sources.reading import check_size, place_of, translated
from eksml.batches.sources.row_groups import rows_in_group
from eksml.batches.sources.selected import marked

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_FOOTERS = 256
_FIELD_ID = b"PARQUET:field_id"


def rows_of(piece: Piece, types: pa.Schema, filter: Any) -> pa.Table:
    """The rows of a piece that statistics do not rule out, with file and place, not yet filtered.

    A column that the file lacks comes from its folders' names, or is null.

    Raises:
        Damaged: The file has changed or is not readable as ``types``.
        NotFound, AccessDenied, StorageUnavailable: It cannot be read.
    """
    import pyarrow as pa

    check_size(piece.file, piece.size)
    fragment = footer(piece.file, piece.size)
    groups = _groups(fragment, piece, types, filter)
    physical = fragment.physical_schema
    names = {each.name: stored_name(each, physical) for each in types}
    stored = tuple(name for name in names.values() if name)
    batches = list[Any]()
    for group, (first, rows) in groups.items() if stored else ():
        here = range(rows.start - first, rows.stop - first)
        batches += rows_in_group(piece.file, piece.size, fragment.metadata, group, stored, here)
    table = pa.Table.from_batches(batches, pa.schema([physical.field(name) for name in stored]))
    places = _places(groups)
    with translated(piece.file):
        arrays = [_column(table, names[each.name], each, piece.file, len(places)) for each in types]
    return marked(pa.Table.from_arrays(arrays, schema=types), piece.file, places)


@functools.lru_cache(maxsize=_FOOTERS)
def footer(file: str, size: int) -> Any:
    """A file as pyarrow's fragment, its footer read; ``size`` tells files of one name apart.

    Raises:
        Damaged: It is no Parquet file.
        NotFound, AccessDenied, StorageUnavailable: It cannot be read.
    """
    import pyarrow.dataset as ds

    path, filesystem = place_of(file)
    with translated(file):
        found = ds.ParquetFileFormat().make_fragment(path, filesystem)
        found.ensure_complete_metadata()
    return found


def may_pass(fragment: Any, types: pa.Schema, filter: Any, file: str) -> list[int]:
    """The row groups that statistics and folders' names do not rule out."""
    import pyarrow as pa

    everything = list(range(fragment.metadata.num_row_groups))
    if filter is None:
        return everything
    names = {each.name: stored_name(each, fragment.physical_schema) for each in types}
    outside = [each for each in types if names[each.name] is None]
    known = pa.table({each.name: _outside(each, file, 1) for each in outside})
    left = list(_undecided(filter, known))
    if not left or not all(left):
        return everything if left else []
    renamed = [[(names[name], *rest) for name, *rest in every] for every in left]
    try:
        found = fragment.subset(expression_of(renamed), fragment.physical_schema).row_groups
    except pa.ArrowException:
        return everything  # a column of another type in this file: decided after the cast
    return [group.id for group in found]


def stored_name(field: pa.Field, physical: pa.Schema) -> str | None:
    """What a column is called in a file, or None if it is not in it. Columns of tables that number
    them (Iceberg) are found by number, since they may have been renamed."""
    number = (field.metadata or {}).get(_FIELD_ID)
    if number is not None:
        numbers = {(each.metadata or {}).get(_FIELD_ID): each.name for each in physical}
        if set(numbers) != {None}:
            return numbers.get(number)
    return field.name if field.name in physical.names else None


def _undecided(filter: Any, known: pa.Table) -> Iterator[Any]:
    """The alternatives that the one row of ``known`` leaves possible, without what it settles."""
    for every in filter:
        settled = [each for each in every if each[0] in known.column_names]
        if not settled or known.filter(expression_of((settled,))).num_rows:
            yield [each for each in every if each not in settled]


def _groups(
    fragment: Any, piece: Piece, types: pa.Schema, filter: Any
) -> dict[int, tuple[int, range]]:
    """The row groups to read, each with the place of its first row and the places to read."""
    metadata, groups, first = fragment.metadata, dict[int, tuple[int, range]](), 0
    possible = set(may_pass(fragment, types, filter, piece.file))
    for index in range(metadata.num_row_groups):
        end = first + metadata.row_group(index).num_rows
        rows = range(max(first, piece.start), min(end, piece.stop))
        if index in possible and rows:
            groups[index] = first, rows
        first = end
    return groups


def _places(groups: dict[int, tuple[int, range]]) -> np.ndarray:
    import numpy as np

    parts = [np.arange(rows.start, rows.stop) for _, rows in groups.values()]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _column(table: pa.Table, name: str | None, field: pa.Field, file: str, rows: int) -> Any:
    if name is None:
        return _outside(field, file, rows)
    column = table.column(name)
    return column if column.type.equals(field.type) else column.cast(field.type)


def _outside(field: pa.Field, file: str, rows: int) -> pa.Array:
    """A column that is not in the file: of one value from its folders' names, or of nulls."""
    import pyarrow as pa

    value = partitions.values_of(file).get(field.name)
    return pa.repeat(partitions.scalar(value, field.type), rows)
