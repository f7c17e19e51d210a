"""infer: events in micro-batches through a model that lives in actors of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from eksml.errors import Problem
from eksml.streams.batch import Batch, concat
from eksml.streams.durations import Duration, duration_problems, seconds
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import Form, function_problems
from eksml.streams.watermarks import Mark

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from eksml.runs.record import ErrorRecord

_IN_FLIGHT = 2
"""Micro-batches that each model actor has been sent: one that it works on, and the next."""


@dataclass(frozen=True)
class Infer(Spec):
    """One event for each, by a model: a function, or a class whose objects are called."""

    kind: ClassVar[str] = "infer"
    model: Callable[..., Any]
    batch: int = 256
    wait: Duration = "5ms"
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    ordered: bool = True
    columns: Form = True

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.model, str | PurePath):
            yield Problem(
                "model",
                f"{str(self.model)!r:.60} is a name, and streams know no models by name.",
                "Give a function; a class that loads the model from a folder or s3:// URI when it "
                'is made; streams.served("app") for one on Ray Serve; or streams.endpoint(url).',
            )
        else:
            yield from function_problems("model", self.model, self.columns)
        yield from duration_problems("wait", self.wait, positive=False)
        for name in ("batch", "replicas"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, int) and value > 0):
                yield Problem(name, f"{value!r} is no whole number above 0.")
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            if isinstance(value, bool) or not (isinstance(value, int | float) and value >= 0):
                yield Problem(name, f"{value!r} is no number of at least 0.")

    def make(self, context: Context) -> Operator:
        return _Infer(self, context)

    def resources(self) -> dict[str, float]:
        """What each replica takes, by Ray's names."""
        return {
            name: amount for name, amount in (("CPU", self.cpus), ("GPU", self.gpus)) if amount > 0
        }


class _Answer(NamedTuple):
    """What a model made of a micro-batch, and the events that it could not bear."""

    batch: Batch
    rejected: list[tuple[Batch, ErrorRecord]]


@dataclass
class _Sent:
    """What went to a model, or a watermark that must not overtake it."""

    answer: asyncio.Task[_Answer] | None
    mark: Mark = None


class _Infer(Operator):
    """Collects events until ``batch`` are there or ``wait`` has passed. Answers leave in the order
    of the questions, or as they come; a watermark never overtakes an event."""

    def __init__(self, spec: Infer, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._waiting: list[Batch] = []
        self._num_waiting = 0
        self._sent: deque[_Sent] = deque()
        self._next = context.index
        self._limit = _IN_FLIGHT * max(1, len(context.pool))
        self._timer: asyncio.Task[None] | None = None
        self._wait_s = seconds(spec.wait)

    async def process(self, batch: Batch, side: int) -> None:
        import numpy as np

        self._waiting.append(batch)
        self._num_waiting += len(batch)
        if self._num_waiting >= self._spec.batch:
            whole = self._collected()
            size = self._spec.batch
            for start in range(0, len(whole) - size + 1, size):
                await self._send(whole.take(np.arange(start, start + size)))
            rest = len(whole) % size
            if rest:
                self._waiting = [whole.take(np.arange(len(whole) - rest, len(whole)))]
                self._num_waiting = rest
        await self._give_out()
        if self._timer is None or self._timer.done():
            self._timer = asyncio.create_task(self._later())

    def _collected(self) -> Batch:
        waiting, self._waiting, self._num_waiting = self._waiting, [], 0
        return concat(waiting)

    async def _later(self) -> None:
        """Send what has waited long enough, and give out what is answered meanwhile."""
        try:
            while self._waiting or self._sent:
                await asyncio.sleep(self._wait_s or 0.001)
                async with self.context.lock:
                    if self._waiting:
                        await self._send(self._collected())
                    await self._give_out()
                await self._first_answer()
        except Exception as error:
            self.context.fail(error)

    async def _first_answer(self) -> None:
        tasks = [sent.answer for sent in self._sent if sent.answer is not None]
        if tasks and not self._waiting:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)

    async def _send(self, batch: Batch) -> None:
        while sum(sent.answer is not None for sent in self._sent) >= self._limit:
            await self._give_out(wait=True)
        self._next = (self._next + 1) % len(self.context.pool)
        answer = asyncio.create_task(self._ask(self.context.pool[self._next], batch))
        self._sent.append(_Sent(answer))

    async def _ask(self, actor: ActorHandle, batch: Batch) -> _Answer:
        import numpy as np

        kept, columns, poison = await actor.answer.remote(batch, self.context.tries)
        rejected = [(batch.take(np.array([index])), error) for index, error in poison]
        good = batch.take(np.array(kept, np.int64)) if poison else batch
        return _Answer(Batch(good.times, columns=columns), rejected)

    async def _give_out(self, wait: bool = False) -> None:
        """Emit what may be emitted now; with ``wait``, after waiting for one answer."""
        if wait:
            tasks = [sent.answer for sent in self._sent if sent.answer is not None]
            oldest = tasks[:1] if self._spec.ordered else tasks
            await asyncio.wait(oldest, return_when=asyncio.FIRST_COMPLETED)
        if not self._spec.ordered:
            await self._give_out_of_order()
        while self._sent:
            first = self._sent[0]
            if first.answer is None:
                self._sent.popleft()
                await self.context.advance(first.mark)
            elif first.answer.done():
                self._sent.popleft()
                await self._emit(first.answer.result())
            else:
                return

    async def _give_out_of_order(self) -> None:
        for sent in [each for each in self._sent if each.answer and each.answer.done()]:
            self._sent.remove(sent)
            assert sent.answer is not None
            await self._emit(sent.answer.result())

    async def _emit(self, answer: _Answer) -> None:
        for batch, error in answer.rejected:
            await self.context.reject(batch, error)
        if len(answer.batch):
            await self.context.emit(answer.batch)

    async def pass_on(self, mark: Mark) -> None:
        if self._waiting:
            await self._send(self._collected())
        self._sent.append(_Sent(None, mark))
        await self._give_out()

    async def flush(self) -> None:
        if self._waiting:
            await self._send(self._collected())
        while self._sent:
            await self._give_out(wait=any(sent.answer is not None for sent in self._sent))

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
