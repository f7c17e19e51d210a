"""Rows that belong together, in memory and on the local disk, and that are put together in time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from eksml.streams.batch import concat_tables
from eksml.streams.keys import NUM_GROUPS
from eksml.streams.operators.aggregates import GROUP
from eksml.streams.operators.mapped import mapped

if TYPE_CHECKING:
    import pyarrow as pa

Compact = Callable[["pa.Table"], "pa.Table"]

_GROWTH = 2
_SMALL_ROWS = 1 << 16


class Pile:
    """Tables that are put together once they have grown enough: a row is copied a few times.

    Those on the disk are, too: ``part_bytes`` of them at a time, about.
    """

    def __init__(self, compact: Compact | None, part_bytes: int | None) -> None:
        self._compact = compact
        self._part_bytes = part_bytes
        self._tables: list[pa.Table] = []
        self._num_rows = 0
        self._settled = 0
        self._on_disk: list[pa.Table] = []
        self._settled_on_disk = 0

    def add(self, table: pa.Table) -> None:
        """Put a table on it."""
        self._tables.append(table)
        self._num_rows += table.num_rows
        if self._compact is not None and _has_grown(self._num_rows, self._settled):
            self._tables = [self._compact(concat_tables(self._tables))]
            self._settled = self._num_rows = self._tables[0].num_rows

    def take(self) -> pa.Table:
        """Take away what lies in memory."""
        whole = concat_tables(self._tables)
        self._tables, self._num_rows, self._settled = [], 0, 0
        return self._compact(whole) if self._compact else whole

    def lay(self, table: pa.Table) -> None:
        """Put a table on it that lies on the disk."""
        self._on_disk.append(table)
        num_rows = sum(each.num_rows for each in self._on_disk)
        if self._compact is not None and _has_grown(num_rows, self._settled_on_disk):
            whole = concat_tables(self._on_disk)
            compacted = map(self._compact, parts(whole, self._part_bytes))
            first = next(compacted)
            self._on_disk = [mapped(itertools.chain([first], compacted), first.schema)]
            self._settled_on_disk = self._on_disk[0].num_rows

    @property
    def tables(self) -> list[pa.Table]:
        """What lies on it."""
        return [*self._on_disk, *self._tables]

    @property
    def num_rows(self) -> int:
        return sum(each.num_rows for each in self.tables)

    @property
    def memory(self) -> int:
        """Bytes in memory."""
        return num_bytes(self._tables)

    @property
    def disk(self) -> int:
        """Bytes on the disk."""
        return num_bytes(self._on_disk)


def _has_grown(num_rows: int, settled: int) -> bool:
    return num_rows - settled > max(_SMALL_ROWS, _GROWTH * settled)


def num_bytes(tables: list[pa.Table]) -> int:
    return sum(table.nbytes for table in tables)


def parts(table: pa.Table, part_bytes: int | None) -> Iterator[pa.Table]:
    """The table in parts of about so many bytes, none of which has a key of another one."""
    import pyarrow.compute as pc

    count = 1 if part_bytes is None else min(NUM_GROUPS, 1 + table.nbytes // part_bytes)
    if count == 1:
        yield table
        return
    group = table.column(GROUP)
    bounds = [NUM_GROUPS * number // count for number in range(count + 1)]
    for first, end in itertools.pairwise(bounds):
        inside = pc.and_(pc.greater_equal(group, first), pc.less(group, end))
        part = table.filter(inside)
        if part.num_rows:
            yield part
