"""Running aggregates of each key in columns: one pass of numpy for a whole micro-batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError
from eksml.streams.batch import Batch, array, values_of
from eksml.streams.operators.aggregates import GROUP, Aggregate
from eksml.streams.operators.base import Context, Operator
from eksml.streams.operators.grouped import Grouped, encode

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_FIRST_ROOM = 1024


class RunningAggregates(Operator):
    """State: for each key a row in arrays, one array for each number that is kept.

    ``first`` and ``last`` go by order of arrival here.
    """

    def __init__(self, aggregates: Sequence[Aggregate], context: Context) -> None:
        super().__init__(context)
        self._aggregates = aggregates
        self._slots: dict[Any, int] = {}
        self._keys: list[Any] = []
        self._groups = _Column()
        self._count = _Column()
        self._columns = {each.name: _Column() for each in aggregates}
        self._changed = _Column()

    async def process(self, batch: Batch, side: int) -> None:
        batch = await self._without_nulls(batch)
        if not len(batch):
            return
        codes, slots = self._place(batch)
        grouped = Grouped(codes, slots)
        before = self._count.at(slots)
        columns = batch.columns
        for each in self._aggregates:
            values = self._running(each, batch, grouped, before)
            if each.name in columns.schema.names:
                columns = columns.drop_columns([each.name])
            columns = columns.append_column(each.name, values)
        self._count.put(slots, before + grouped.sizes)
        self._changed.put(slots, True)
        await self.context.emit(batch.with_columns(columns))

    async def _without_nulls(self, batch: Batch) -> Batch:
        import numpy as np
        import pyarrow.compute as pc

        good = np.ones(len(batch), np.bool_)
        for each in self._aggregates:
            if each.column is not None:
                column = batch.column(each.column)
                if column.null_count:
                    good &= pc.is_valid(column).to_numpy(zero_copy_only=False)
        if not good.all():
            error = CallError("a column that is aggregated is null.")
            await self.context.reject(batch.filter(~good), error)
        return batch.filter(good)

    def _place(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """A number for each event's key within the batch, and the slot of each such number."""
        import numpy as np

        codes, keys = encode([batch.column(name) for name in self.context.keys])
        before = len(self._keys)
        found = self._slots
        known: list[Any] = list(map(found.get, keys))
        if None in known:
            for index, key in enumerate(keys):
                if known[index] is None:
                    known[index] = found[key] = len(found)
                    self._keys.append(key)
        slots = np.array(known, np.int64)
        if len(self._keys) > before:
            assert batch.groups is not None
            groups = np.empty(len(keys), np.uint8)
            groups[codes] = batch.groups
            self._grow(len(self._keys))
            self._groups.put(slots, groups)
        return codes, slots

    def _grow(self, size: int) -> None:
        for column in (self._groups, self._count, self._changed, *self._columns.values()):
            column.grow(size)

    def _running(
        self, each: Aggregate, batch: Batch, grouped: Grouped, before: np.ndarray
    ) -> pa.Array:
        """The aggregate after each event; ``before`` is how many events each key had had."""
        import pyarrow as pa

        if each.function == "count":
            return pa.array(grouped.counts(before))
        assert each.column is not None
        values = _numbers(batch.column(each.column), each)
        state = self._columns[each.name]
        state.of_type(values.dtype)
        running = grouped.running(each.function, values, state.at(grouped.slots), before > 0)
        state.put(grouped.slots, running[grouped.last])
        return pa.array(running / grouped.counts(before) if each.function == "mean" else running)

    def snapshot(self, full: bool) -> pa.Table | None:
        import numpy as np
        import pyarrow as pa

        size = len(self._keys)
        changed = self._changed.values[:size].astype(np.bool_)
        self._changed.values[:] = 0
        slots = np.arange(size) if full else np.flatnonzero(changed)
        if not len(slots):
            return None
        keys = [self._keys[slot] for slot in slots.tolist()]
        columns = {GROUP: pa.array(self._groups.at(slots).astype(np.uint8))}
        for position in range(len(self.context.keys)):
            name = f"key{position}"
            values = [key[position] for key in keys] if len(self.context.keys) > 1 else keys
            columns[name] = array(values, name)
        columns["count"] = pa.array(self._count.at(slots))
        for name, column in self._columns.items():
            columns[f"value {name}"] = pa.array(column.at(slots))
        return pa.table(columns)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        import numpy as np

        for table in tables:
            names = [f"key{position}" for position in range(len(self.context.keys))]
            lists = [values_of(table.column(name)) for name in names]
            keys = lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))
            for key in keys:
                if key not in self._slots:
                    self._slots[key] = len(self._slots)
                    self._keys.append(key)
            self._grow(len(self._keys))
            slots = np.fromiter((self._slots[key] for key in keys), np.int64, len(keys))
            self._groups.put(slots, table.column(GROUP).to_numpy())
            self._count.put(slots, table.column("count").to_numpy())
            for name, column in self._columns.items():
                values = table.column(f"value {name}").to_numpy()
                column.of_type(values.dtype)
                column.put(slots, values)

    def size(self) -> int:
        return len(self._keys)


class _Column:
    """An array that grows, and takes a wider type when it has to."""

    def __init__(self) -> None:
        import numpy as np

        self.values = np.zeros(_FIRST_ROOM, np.int64)

    def grow(self, size: int) -> None:
        import numpy as np

        if size > len(self.values):
            room = np.zeros(max(size, 2 * len(self.values)), self.values.dtype)
            room[: len(self.values)] = self.values
            self.values = room

    def of_type(self, dtype: np.dtype[Any]) -> None:
        import numpy as np

        wider = np.promote_types(self.values.dtype, dtype)
        if wider != self.values.dtype:
            self.values = self.values.astype(wider)

    def at(self, slots: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.values[slots]
        return found

    def put(self, slots: np.ndarray, values: Any) -> None:
        self.values[slots] = values


def _numbers(column: pa.Array, each: Aggregate) -> np.ndarray:
    import pyarrow as pa

    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise CallError(
            f"{each.name}: the {each.function} of {each.column!r}, which is {kind}, cannot be "
            "kept in columns. Give a number column, or a function."
        )
    wide = pa.int64() if pa.types.is_integer(kind) else pa.float64()
    numbers: np.ndarray = column.cast(wide).to_numpy()
    return numbers
