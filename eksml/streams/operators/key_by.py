"""key_by: tell which events belong together; from here on they are at one worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch, array
from eksml.streams.keys import groups_of
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import function_problems
from eksml.streams.operators.trying import Trying

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class KeyBy(Spec):
    """By columns, or by what a function gives for an event: then as the column ``column``."""

    kind: ClassVar[str] = "key_by"
    by: tuple[str, ...] | Callable[[Any], Any]
    column: str = "key"

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the key columns."""
        return self.by if isinstance(self.by, tuple) else (self.column,)

    def problems(self) -> Iterator[Problem]:
        remedy = 'Write key_by("card"), key_by("shop", "day") or key_by(lambda event: …).'
        if not isinstance(self.by, tuple):
            yield from function_problems("by", self.by)
        elif not self.by or not all(isinstance(name, str) and name for name in self.by):
            yield Problem("by", f"{self.by!r:.60} are no names of columns.", remedy)

    def make(self, context: Context) -> Operator:
        return _KeyBy(self, context)


class _KeyBy(Operator):
    def __init__(self, spec: KeyBy, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        if not isinstance(self._spec.by, tuple):
            batch, keys = await self._trying.rows(batch, self._spec.by)
            if not keys:
                return
            column = self._spec.column
            if batch.in_rows:
                rows = [{**row, column: key} for row, key in zip(batch.rows, keys, strict=True)]
                batch = batch.with_rows(rows)
            else:
                columns = batch.columns
                if column in columns.schema.names:
                    columns = columns.drop_columns([column])
                batch = batch.with_columns(columns.append_column(column, array(keys, column)))
        columns = [batch.column(name) for name in self._spec.columns]
        if any(column.null_count for column in columns):
            batch = await self._with_keys_only(batch, columns)
            columns = [batch.column(name) for name in self._spec.columns]
        if len(batch):
            await self.context.emit(_grouped(batch, groups_of(columns)))

    async def _with_keys_only(self, batch: Batch, columns: list[pa.Array]) -> Batch:
        """Without the events whose key is null: they belong nowhere."""
        import numpy as np

        missing = np.zeros(len(batch), np.bool_)
        for column in columns:
            missing |= column.is_null().to_numpy(zero_copy_only=False)
        names = ", ".join(self._spec.columns)
        await self.context.reject(
            batch.filter(missing), CallError(f"its key, {names}, is missing.")
        )
        return batch.filter(~missing)


def _grouped(batch: Batch, groups: Any) -> Batch:
    if batch.in_rows:
        return Batch(batch.times, rows=batch.rows, groups=groups)
    return Batch(batch.times, columns=batch.columns, groups=groups)
