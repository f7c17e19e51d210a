"""reduce: a running value for each key, told with every event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch, Event
from eksml.streams.operators.aggregates import aggregate_problems, parse
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import event_of, function_problems
from eksml.streams.operators.keyed import KeyedState, keys_of
from eksml.streams.operators.room import Held

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Reduce(Spec):
    """Each event with its key's running aggregates beside it."""

    kind: ClassVar[str] = "reduce"
    needs_key: ClassVar[bool] = True
    keeps_key: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    fn: Callable[[Any, Any], Any] | Mapping[str, Any]
    start: Mapping[str, Any] | None = None

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.fn, Mapping):
            yield from aggregate_problems("fn", self.fn)
            if self.start is not None:
                message = "is for a function; built-in aggregates start empty."
                yield Problem("start", message, "Leave it out.")
            return
        yield from function_problems("fn", self.fn)
        if self.start is not None and not isinstance(self.start, Mapping):
            yield Problem("start", f"{self.start!r:.60} is no dictionary.")

    def make(self, context: Context) -> Operator:
        if isinstance(self.fn, Mapping):
            from eksml.streams.operators.running import RunningAggregates

            return RunningAggregates(parse(self.fn), context)
        return _Reduce(self.fn, dict(self.start or {}), context)


class _Reduce(Operator):
    """State: a dictionary for each key."""

    def __init__(self, fn: Callable[[Any, Any], Any], start: Event, context: Context) -> None:
        super().__init__(context)
        self._fn = fn
        self._start = start
        self._state = KeyedState(context.step, memory=context.state_memory)

    async def process(self, batch: Batch, side: int) -> None:
        import numpy as np

        assert batch.groups is not None
        keys = list(keys_of(batch, self.context.keys))
        self._state.bring(keys)
        values, failed = self._state.fold(keys, batch.groups.tolist(), batch.rows, self._next)
        if failed:
            kept = np.ones(len(batch), np.bool_)
            kept[[index for index, _ in failed]] = False
            for index, error in failed:
                await self.context.reject(batch.take(np.array([index])), error, 1)
            batch = batch.filter(kept)
        rows = [{**event, **value} for event, value in zip(batch.rows, values, strict=True)]
        await self.context.emit(batch.with_rows(rows))
        self._state.settle(keys)

    def _next(self, state: Event | None, event: Event) -> Event:
        value: Event = self._fn(state or self._start, event)
        if type(value) is not dict:
            value = event_of(value)
        for name in self.context.keys:
            if name in value:
                raise CallError(f"the state has {name!r}, which is the key's. Call it otherwise.")
        return value

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._state.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._state.restore(tables)

    def size(self) -> int:
        return len(self._state)

    def held(self) -> Held:
        return self._state.held()
