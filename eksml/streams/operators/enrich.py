"""enrich: an asynchronous call for each event, many at once, in order or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from eksml.errors import Problem
from eksml.streams.batch import Batch, Event
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import event_of, function_problems


@dataclass(frozen=True)
class Enrich(Spec):
    """One event for each, by an ``async def`` of the user's."""

    kind: ClassVar[str] = "enrich"
    fn: Callable[[Any], Awaitable[Any]]
    concurrency: int = 64

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn)
        if callable(self.fn) and not asyncio.iscoroutinefunction(self.fn):
            yield Problem("fn", "is not asynchronous.", "Write `async def`; or use map.")
        if isinstance(self.concurrency, bool) or not (
            isinstance(self.concurrency, int) and self.concurrency > 0
        ):
            yield Problem("concurrency", f"{self.concurrency!r} is no number of calls above 0.")

    def make(self, context: Context) -> Operator:
        return _Enrich(self, context)


class _Enrich(Operator):
    """A micro-batch goes on as a whole, in its order, once all of its calls have answered."""

    def __init__(self, spec: Enrich, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._slots = asyncio.Semaphore(spec.concurrency)

    async def process(self, batch: Batch, side: int) -> None:
        import numpy as np

        found = await asyncio.gather(*(self._one(event) for event in batch.rows))
        kept = np.array([not isinstance(value, Exception) for value in found], np.bool_)
        for index in np.flatnonzero(~kept).tolist():
            await self.context.reject(batch.take(np.array([index])), found[index])
        if kept.any():
            rows = [value for value in found if not isinstance(value, Exception)]
            await self.context.emit(batch.filter(kept).with_rows(rows))

    async def _one(self, event: Event) -> Event | Exception:
        last: Exception | None = None
        async with self._slots:
            for _ in range(self.context.tries):
                try:
                    return event_of(await self._spec.fn(event))
                except Exception as error:
                    last = error
        assert last is not None
        return last
