"""join: pairs of events of two streams that have one key and lie in one window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eksml.errors import Problem
from eksml.streams.batch import Batch
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.columnar import result_batch, sort_out_late, with_hidden
from eksml.streams.operators.panes import Panes
from eksml.streams.operators.room import Held
from eksml.streams.operators.window import LATE
from eksml.streams.windows import Sliding, Span

if TYPE_CHECKING:
    import pyarrow as pa

_JOINS = ("inner", "left outer", "right outer", "full outer")
_SIDES = ("l.", "r.")


@dataclass(frozen=True)
class Join(Spec):
    """An event for each pair, when the window ends."""

    kind: ClassVar[str] = "join"
    needs_key: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    window: Sliding
    how: str = "inner"

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.window, Sliding):
            yield from self.window.problems()
        else:
            remedy = "Give eksml.streams.tumbling or sliding."
            yield Problem("window", f"{self.window!r:.60} is no window for a join.", remedy)
        if self.how not in _JOINS:
            yield Problem(
                "how", f"{self.how!r:.40} is no join.", f"There are: {', '.join(_JOINS)}."
            )

    def outputs(self) -> tuple[str, ...]:
        return (LATE,)

    def make(self, context: Context) -> Operator:
        return _Join(self, context)


class _Join(Operator):
    """State: both sides' events of the windows that are open.

    The key columns have the names of the left side; a column that both have gets ``_right`` at
    the end of its name where it comes from the right.
    """

    def __init__(self, spec: Join, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._panes = Panes(spec.window, memory=context.state_memory)

    async def process(self, batch: Batch, side: int) -> None:
        panes = self._panes.of(batch.times)
        batch, panes = await sort_out_late(batch, panes, self._panes.late(panes), self.context)
        if not len(batch):
            return
        columns = {
            f"{_SIDES[side]}{name}": column
            for name, column in zip(batch.columns.schema.names, batch.columns.columns, strict=True)
        }
        for position, name in enumerate(self._keys(side)):
            columns[f"key{position}"] = batch.column(name)
        columns["side"] = self._constant(side, len(batch))
        self._panes.add(with_hidden(columns, batch, panes))

    def _keys(self, side: int) -> tuple[str, ...]:
        half = len(self.context.keys) // 2
        return self.context.keys[half * side : half * (side + 1)]

    def _constant(self, side: int, count: int) -> pa.Array:
        import pyarrow as pa

        return pa.repeat(pa.scalar(side, pa.uint8()), count)

    async def on_watermark(self, watermark: int) -> None:
        for span, rows in self._panes.due(watermark):
            joined = self._joined(rows)
            if joined.num_rows:
                await self.context.emit(self._batch(joined, span))

    def _joined(self, rows: pa.Table) -> pa.Table:
        import pyarrow.compute as pc

        keys = [name for name in rows.schema.names if name.startswith("key")]
        sides = []
        for side, prefix in enumerate(_SIDES):
            mine = [name for name in rows.schema.names if name.startswith(prefix)]
            sides.append(rows.filter(pc.equal(rows.column("side"), side)).select([*keys, *mine]))
        left, right = sides
        # Arrow joins no lists or dictionaries of values, and both sides in one thread keep an order
        return left.join(right, keys, join_type=self._spec.how, use_threads=False)

    def _batch(self, joined: pa.Table, span: Span) -> Batch:
        keys = dict(zip(self._keys(0), (f"key{i}" for i in range(9)), strict=False))
        columns = {name: joined.column(place) for name, place in keys.items()}
        for prefix in _SIDES:
            for name in joined.schema.names:
                plain = name.removeprefix(prefix)
                if name.startswith(prefix) and plain not in self._keys(_SIDES.index(prefix)):
                    columns[f"{plain}_right" if plain in columns else plain] = joined.column(name)
        import pyarrow as pa

        return result_batch(pa.table(columns), span)

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._panes.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._panes.restore(tables, watermark)

    def size(self) -> int:
        return self._panes.num_rows

    def held(self) -> Held:
        return self._panes.held()
