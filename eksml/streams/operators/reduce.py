"""reduce: a running value for each key, told with every event."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import Problem
from eksml.streams.batch import Batch, Event
from eksml.streams.operators.aggregates import aggregate_problems, parse
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import event_of, function_problems
from eksml.streams.operators.keyed import KeyedState, keys_of
from eksml.streams.operators.trying import Trying

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
        self._state = KeyedState(context.step)
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        assert batch.groups is not None
        keys = keys_of(batch, self.context.keys)
        places = zip(keys, batch.groups.tolist(), strict=True)
        fn, state, start = self._fn, self._state, self._start

        def reduce(event: Event) -> Event:
            key, group = next(places)
            value = event_of(fn(state.get(key) or start, event))
            state.set(key, value, group)
            return {**event, **value}

        kept, results = await self._trying.once(batch, reduce)
        if results:
            await self.context.emit(kept.with_rows(results))

    def snapshot(self, full: bool) -> pa.Table | None:
        return self._state.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._state.restore(tables)

    def size(self) -> int:
        return len(self._state)
