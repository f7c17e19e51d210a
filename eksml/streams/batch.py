"""A micro-batch of events, which travels and is worked on as a whole."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from eksml.errors import CallError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Event: TypeAlias = dict[str, Any]
"""One event, as functions of users see it."""

_TIME, _GROUP = "__time", "__group"


class Batch:
    """Events with their times, as Arrow columns or as dictionaries: whichever they were made as,
    converted once where the other is asked for. Never changed in place.

    A value that is missing in some events of a batch is null in columns, and null stays.
    """

    __slots__ = ("_columns", "_rows", "groups", "times")

    def __init__(
        self,
        times: np.ndarray,
        *,
        columns: pa.RecordBatch | None = None,
        rows: list[Event] | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        self.times = times
        """Event time of each, int64, microseconds since the epoch."""
        self.groups = groups
        """Key group of each, once they have a key."""
        self._columns = columns
        self._rows = rows

    def __len__(self) -> int:
        return len(self.times)

    @property
    def in_rows(self) -> bool:
        """Whether the events are at hand as dictionaries."""
        return self._rows is not None

    @property
    def columns(self) -> pa.RecordBatch:
        """The events as Arrow columns.

        Raises:
            CallError: A column holds values of types that do not go together.
        """
        if self._columns is None:
            assert self._rows is not None
            self._columns = columns_of(self._rows)
        return self._columns

    @property
    def rows(self) -> list[Event]:
        """The events as dictionaries; not to be changed."""
        if self._rows is None:
            assert self._columns is not None
            self._rows = self._columns.to_pylist()
        return self._rows

    def column(self, name: str) -> pa.Array:
        """One column.

        Raises:
            CallError: The events have none of that name.
        """
        if self._columns is None and self._rows is not None:
            return array([row.get(name) for row in self._rows], name)
        found = self.columns.schema.get_field_index(name)
        if found < 0:
            names = ", ".join(self.columns.schema.names) or "nothing"
            raise CallError(f"the events have no column {name!r}. They have: {names}.")
        return self.columns.column(found)

    def with_columns(self, columns: pa.RecordBatch) -> Batch:
        """Other events in place of these, one for one."""
        return Batch(self.times, columns=columns, groups=self.groups)

    def with_rows(self, rows: list[Event]) -> Batch:
        """Other events in place of these, one for one."""
        return Batch(self.times, rows=rows, groups=self.groups)

    def filter(self, mask: np.ndarray) -> Batch:
        """Those whose ``mask`` is true."""
        if mask.all():
            return self
        columns = rows = None
        if self._rows is not None:
            rows = list(itertools.compress(self._rows, mask.tolist()))
        else:
            import pyarrow as pa

            columns = self.columns.filter(pa.array(mask))
        groups = None if self.groups is None else self.groups[mask]
        return Batch(self.times[mask], columns=columns, rows=rows, groups=groups)

    def take(self, indices: np.ndarray) -> Batch:
        """Those at ``indices``, in that order; some may come more than once."""
        columns = rows = None
        if self._rows is not None:
            rows = [self._rows[index] for index in indices.tolist()]
        else:
            import pyarrow as pa

            columns = self.columns.take(pa.array(indices))
        groups = None if self.groups is None else self.groups[indices]
        return Batch(self.times[indices], columns=columns, rows=rows, groups=groups)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels as Arrow, its buffer beside the pickle and not in it."""
        return _from_ipc, (pickle.PickleBuffer(to_ipc(self._to_table())),)

    def _to_table(self) -> pa.Table:
        import pyarrow as pa

        table = pa.Table.from_batches([self.columns]) if self.columns.num_columns else None
        extra = {_TIME: pa.array(self.times)}
        if self.groups is not None:
            extra[_GROUP] = pa.array(self.groups)
        for name, values in extra.items():
            table = pa.table({name: values}) if table is None else table.append_column(name, values)
        return table


def concat(batches: Sequence[Batch]) -> Batch:
    """One batch of several, in order."""
    import numpy as np

    if len(batches) == 1:
        return batches[0]
    times = np.concatenate([batch.times for batch in batches])
    parts = [batch.groups for batch in batches if batch.groups is not None]
    groups = np.concatenate(parts) if len(parts) == len(batches) else None
    if all(batch.in_rows for batch in batches):
        rows = [row for batch in batches for row in batch.rows]
        return Batch(times, rows=rows, groups=groups)
    columns = single(concat_tables([as_table(batch.columns) for batch in batches]))
    return Batch(times, columns=columns, groups=groups)


def columns_of(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Dictionaries as Arrow columns.

    Raises:
        CallError: A column holds values of types that do not go together.
    """
    import pyarrow as pa

    if not rows:
        return pa.RecordBatch.from_arrays([], names=[])
    first = rows[0].keys()
    if all(row.keys() == first for row in rows):
        names: Iterable[str] = first
        arrays = [array([row[name] for row in rows], name) for name in names]
    else:
        names = dict.fromkeys(name for row in rows for name in row)
        arrays = [array([row.get(name) for row in rows], name) for name in names]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


def array(values: Sequence[Any], name: str) -> pa.Array:
    """One column of values.

    Raises:
        CallError: Their types do not go together, or Arrow has none for them.
    """
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise CallError(
            f"the column {name!r} cannot be made of these values: {error}. "
            "Give every event numbers, text, bytes, times, lists or dictionaries of one kind."
        ) from error


def as_table(columns: Any) -> pa.Table:
    """A table, of a table or record batch."""
    import pyarrow as pa

    return columns if isinstance(columns, pa.Table) else pa.Table.from_batches([columns])


def single(table: pa.Table) -> pa.RecordBatch:
    """The table as one record batch."""
    import pyarrow as pa

    batches = table.combine_chunks().to_batches()
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in table.schema], schema=table.schema
        )
    return pa.concat_batches(batches)


def concat_tables(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of several; columns of different numbers become the wider kind.

    Raises:
        CallError: A column has types that do not go together.
    """
    import pyarrow as pa

    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise CallError(f"events of one stream do not fit together: {error}") from error


def to_ipc(table: pa.Table, compression: str | None = None) -> pa.Buffer:
    """A table as the bytes of an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def from_ipc(data: Any) -> pa.Table:
    """The table in an Arrow IPC stream; shares its memory."""
    import pyarrow as pa

    return pa.ipc.open_stream(pa.py_buffer(data)).read_all()


def _from_ipc(data: Any) -> Batch:
    table = from_ipc(data)
    names = table.schema.names
    times = table.column(_TIME).to_numpy()
    groups = table.column(_GROUP).to_numpy() if _GROUP in names else None
    kept = table.select([name for name in names if name not in (_TIME, _GROUP)])
    if not kept.num_columns:
        return Batch(times, rows=[{} for _ in times], groups=groups)
    return Batch(times, columns=single(kept), groups=groups)
