"""Tumbling and sliding windows with built-in aggregates: whole micro-batches at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from eksml.streams.batch import Batch, single
from eksml.streams.operators.aggregates import GROUP, PANE, TIME, Aggregate, Aggregator
from eksml.streams.operators.base import Context, Operator
from eksml.streams.operators.panes import Panes
from eksml.streams.operators.room import Held
from eksml.streams.operators.window import LATE
from eksml.streams.windows import Sliding, Span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ColumnarWindows(Operator):
    """Keeps a partial aggregate for each key and pane."""

    def __init__(
        self,
        window: Sliding,
        aggregates: Sequence[Aggregate],
        context: Context,
        lateness_us: int,
    ) -> None:
        super().__init__(context)
        self._aggregator = Aggregator(aggregates, context.keys)
        merge, memory = self._aggregator.merge, context.state_memory
        self._panes = Panes(window, merge, lateness_us, memory)

    async def process(self, batch: Batch, side: int) -> None:
        panes = self._panes.of(batch.times)
        batch, panes = await sort_out_late(batch, panes, self._panes.late(panes), self.context)
        if not len(batch):
            return
        names = dict.fromkeys([*self.context.keys, *self._aggregator.columns])
        columns = {name: batch.column(name) for name in names}
        partial = self._aggregator.partial(with_hidden(columns, batch, panes))
        self._panes.add(partial)
        await self._update(partial)

    async def _update(self, partial: pa.Table) -> None:
        """Give those keys of windows again that were given out without these events."""
        import numpy as np
        import pyarrow.compute as pc

        by = list(self.context.keys)
        panes = np.unique(partial.column(PANE).to_numpy()).tolist()
        for span, rows in self._panes.given_out(panes):
            inside = pc.and_(
                pc.greater_equal(partial.column(PANE), span.start),
                pc.less(partial.column(PANE), span.end),
            )
            changed = partial.filter(inside).select(by)
            mine = rows.join(changed, by, join_type="left semi", use_threads=False)
            await self.context.emit(self._result(span, mine))

    async def on_watermark(self, watermark: int) -> None:
        for span, rows in self._panes.due(watermark):
            await self.context.emit(self._result(span, rows))

    def _result(self, span: Span, rows: pa.Table) -> Batch:
        import pyarrow as pa

        # Of a window of several panes the rows of one key belong together
        place = rows.schema.get_field_index(PANE)
        rows = rows.set_column(place, PANE, pa.repeat(span.start, rows.num_rows))
        return result_batch(self._aggregator.results(self._aggregator.merge(rows)), span)

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._panes.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._panes.restore(tables, watermark)

    def size(self) -> int:
        return self._panes.num_rows

    def held(self) -> Held:
        return self._panes.held()


async def sort_out_late(
    batch: Batch, panes: np.ndarray, late: np.ndarray, context: Context
) -> tuple[Batch, np.ndarray]:
    """Hand late events to their side output; the others, with their panes."""
    if not late.any():
        return batch, panes
    context.counts.late += int(late.sum())
    await context.emit(batch.filter(late), LATE)
    return batch.filter(~late), panes[~late]


def with_hidden(columns: dict[str, pa.Array], batch: Batch, panes: np.ndarray) -> pa.Table:
    """Columns of events with their pane, key group and time."""
    import pyarrow as pa

    hidden = {PANE: pa.array(panes), GROUP: pa.array(batch.groups), TIME: pa.array(batch.times)}
    return pa.table({**columns, **hidden})


def result_batch(table: pa.Table, span: Span) -> Batch:
    """What a window gives: its bounds beside the columns, at the last moment of the window."""
    import numpy as np
    import pyarrow as pa

    kind = pa.timestamp("us", tz="UTC")
    for name, value in (("window_start", span.start), ("window_end", span.end)):
        bound = pa.repeat(pa.scalar(value, kind), table.num_rows)
        table = table.append_column(name, bound)
    times = np.full(table.num_rows, span.end - 1, np.int64)
    return Batch(times, columns=single(table))
