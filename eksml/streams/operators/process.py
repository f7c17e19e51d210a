"""process: a function with state and timers for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch, Event
from eksml.streams.operators.alarms import Alarms
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import function_problems
from eksml.streams.operators.key_text import Key
from eksml.streams.operators.keyed import KeyedState, keys_of
from eksml.streams.operators.room import Held
from eksml.streams.operators.side import Outputs
from eksml.streams.operators.trying import Trying
from eksml.streams.watermarks import NEVER

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Process(Spec):
    """Whatever a function makes of an event and its key's state."""

    kind: ClassVar[str] = "process"
    needs_key: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    fn: Callable[..., Any]
    on_timer: Callable[..., Any] | None = None

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn)
        if self.on_timer is not None:
            yield from function_problems("on_timer", self.on_timer)

    def outputs(self) -> tuple[str, ...]:
        return ("*",)

    def make(self, context: Context) -> Operator:
        return _Process(self, context)


@dataclass
class Timing:
    """What a function of ``process`` is told, beside the event and the state."""

    key: dict[str, Any]
    """The key columns."""
    time_us: int
    """Event time of the event, or the time that the timer was set for; microseconds."""
    watermark_us: int
    """How far event time has come."""
    _asked: list[int] = field(default_factory=list)

    def timer(self, time_us: int) -> None:
        """Call ``on_timer`` for this key when event time has come to ``time_us``; once, however
        often it is asked for the same moment."""
        if isinstance(time_us, bool) or not isinstance(time_us, int):
            raise CallError(f"a timer is a number of whole microseconds, not {time_us!r:.40}.")
        self._asked.append(time_us)


@dataclass
class _Kept:
    state: Event
    timers: list[int]


class _Process(Operator):
    """State: for each key a dictionary and its timers; a key with neither is forgotten."""

    def __init__(self, spec: Process, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._state = KeyedState(
            context.step,
            lambda kept: [kept.state, kept.timers],
            lambda value: _Kept(*value),
            lambda key, kept: min(kept.timers, default=None),
            context.state_memory,
        )
        self._timers = Alarms(self._state, lambda kept: kept.timers)
        self._watermark = NEVER
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        assert batch.groups is not None
        keys = list(keys_of(batch, self.context.keys))
        self._timers.wind(self._state.bring(keys))
        places = zip(keys, batch.times.tolist(), batch.groups.tolist(), strict=True)
        outputs = Outputs()

        def process(event: Event) -> None:
            key, time, group = next(places)
            kept = self._state.get(key) or _Kept({}, [])
            timing = self._timing(key, time)
            for found in self._spec.fn(event, kept.state, timing) or ():
                outputs.add(found, time)
            self._keep(key, kept, timing, group)

        await self._trying.once(batch, process)
        await outputs.emit(self.context)
        self._timers.settle(keys)

    def _timing(self, key: Key, time: int) -> Timing:
        return Timing(dict(zip(self.context.keys, key, strict=True)), time, self._watermark)

    def _keep(self, key: Key, kept: _Kept, timing: Timing, group: int) -> None:
        for time in timing._asked:
            if time not in kept.timers:
                kept.timers.append(time)
                self._timers.set(time, key)
        if kept.state or kept.timers:
            self._state.set(key, kept, group)
        elif self._state.get(key) is not None:
            self._state.delete(key)

    async def on_watermark(self, watermark: int) -> None:
        self._watermark = max(self._watermark, watermark)
        await self._timers.ring(watermark, self._ring_until)

    async def _ring_until(self, watermark: int) -> None:
        outputs = Outputs()
        for time, key in self._timers.due(watermark):
            kept = self._state.get(key)
            if kept is not None and time in kept.timers:
                kept.timers.remove(time)
                self._ring(key, time, kept, outputs)
        await outputs.emit(self.context)

    def _ring(self, key: Key, time: int, kept: _Kept, outputs: Outputs) -> None:
        timing = self._timing(key, time)
        if self._spec.on_timer is not None:
            for found in self._spec.on_timer(kept.state, timing) or ():
                outputs.add(found, time)
        self._keep(key, kept, timing, self._state.group(key))

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._state.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._watermark = watermark
        self._state.restore(tables)
        self._timers.wind(key for key, _ in self._state.items())

    def size(self) -> int:
        return len(self._state)

    def held(self) -> Held:
        return self._state.held()
