"""Running aggregates of each key in columns: one pass of numpy for a whole micro-batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from eksml.errors import CallError
from eksml.streams.batch import Batch
from eksml.streams.operators.aggregates import Aggregate
from eksml.streams.operators.base import Context, Operator
from eksml.streams.operators.grouped import Grouped, encode
from eksml.streams.operators.room import Held
from eksml.streams.operators.slots import Slots

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class RunningAggregates(Operator):
    """State: for each key what is kept of each aggregate.

    ``first`` and ``last`` go by order of arrival here.
    """

    def __init__(self, aggregates: Sequence[Aggregate], context: Context) -> None:
        super().__init__(context)
        self._aggregates = aggregates
        names = [each.name for each in aggregates]
        self._slots = Slots(names, len(context.keys), context.state_memory)

    async def process(self, batch: Batch, side: int) -> None:
        batch = await self._without_nulls(batch)
        if not len(batch):
            return
        codes, keys = encode([batch.column(name) for name in self.context.keys])
        assert batch.groups is not None
        slots = self._slots.place(keys, codes, batch.groups)
        grouped = Grouped(codes, slots)
        before = self._slots.count.at(slots)
        columns = batch.columns
        for each in self._aggregates:
            values = self._running(each, batch, grouped, before)
            if each.name in columns.schema.names:
                columns = columns.drop_columns([each.name])
            columns = columns.append_column(each.name, values)
        self._slots.count.put(slots, before + grouped.sizes)
        self._slots.changed(slots)
        await self.context.emit(batch.with_columns(columns))
        self._slots.settle(keys)

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

    def _running(
        self, each: Aggregate, batch: Batch, grouped: Grouped, before: np.ndarray
    ) -> pa.Array:
        """The aggregate after each event; ``before`` is how many events each key had had."""
        import pyarrow as pa

        if each.function == "count":
            return pa.array(grouped.counts(before))
        assert each.column is not None
        values = _numbers(batch.column(each.column), each)
        state = self._slots.columns[each.name]
        state.of_type(values.dtype)
        running = grouped.running(each.function, values, state.at(grouped.slots), before > 0)
        state.put(grouped.slots, running[grouped.last])
        return pa.array(running / grouped.counts(before) if each.function == "mean" else running)

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._slots.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._slots.restore(tables)

    def size(self) -> int:
        return len(self._slots)

    def held(self) -> Held:
        return self._slots.held()


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
