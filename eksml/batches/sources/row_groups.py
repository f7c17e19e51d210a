"""Row groups of Parquet files, read on from where the last reading of them ended.

A row group can only be read from its beginning, and is often a million rows where a block of work
is a thousand. Begun anew for each block, it would be fetched and decoded a thousand times.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from eksml.batches.sources.reading import opened, translated

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 32_768
"""Rows that are decoded at a time: what lies further behind a range than this is not decoded."""
_IDLE = 4
"""Row groups that a process keeps open; each holds its columns' bytes as they are in the file."""


class RowGroup:
    """One row group, open; used by one thread at a time, forward only."""

    def __init__(self, key: tuple[Any, ...], metadata: Any) -> None:
        from pyarrow.parquet import ParquetFile

        self.key = key
        self.at = 0
        """The number in the group of the first row that was not given yet."""
        self._file, size, group, self._columns = key
        self._rest: Any = None
        self._stack = ExitStack()
        stream = self._stack.enter_context(opened(self._file, size))
        parquet = ParquetFile(stream, metadata=metadata, pre_buffer=True)
        self._batches = parquet.iter_batches(_ROWS, row_groups=[group], columns=self._columns)

    def rows(self, first: int, last: int) -> list[pa.RecordBatch]:
        """The rows numbered from ``first``, which is not before ``at``, to before ``last``.

        Raises:
            Damaged: They cannot be decoded.
            NotFound, AccessDenied, StorageUnavailable: They cannot be read.
        """
        parts = []
        with translated(self._file):
            while self.at < last:
                batch = self._rest or next(self._batches)
                begin, end = max(first - self.at, 0), min(last - self.at, len(batch))
                if begin < end:
                    # A name with a dot in it brings others along
                    parts.append(batch.slice(begin, end - begin).select(list(self._columns)))
                self.at += end
                self._rest = batch.slice(end) if end < len(batch) else None
        return parts

    def close(self) -> None:
        self._stack.close()


_idle: list[RowGroup] = []
_lock = threading.Lock()


def rows_in_group(
    file: str, size: int, metadata: Any, group: int, columns: tuple[str, ...], rows: range
) -> list[pa.RecordBatch]:
    """Some rows of one row group, by their numbers in it. Raises as ``RowGroup.rows`` does."""
    key = (file, size, group, columns)
    found = _taken(key, rows.start) or RowGroup(key, metadata)
    try:
        parts = found.rows(rows.start, rows.stop)
    except BaseException:
        found.close()
        raise
    _give_back(found, metadata.row_group(group).num_rows)
    return parts


def _taken(key: tuple[Any, ...], first: int) -> RowGroup | None:
    """The open one that has least to pass over."""
    with _lock:
        fitting = [each for each in _idle if each.key == key and each.at <= first]
        found = max(fitting, key=lambda each: each.at, default=None)
        if found is not None:
            _idle.remove(found)
    return found


def _give_back(group: RowGroup, rows: int) -> None:
    if group.at >= rows:
        group.close()
        return
    with _lock:
        _idle.append(group)
        old = [_idle.pop(0)] if len(_idle) > _IDLE else []
    for each in old:
        each.close()
