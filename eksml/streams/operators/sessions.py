"""Session windows: of a key, as long as its events are apart by less than the gap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.streams.batch import Batch, Event
from eksml.streams.operators.alarms import Alarms
from eksml.streams.operators.base import Context, Operator
from eksml.streams.operators.key_text import Key
from eksml.streams.operators.keyed import KeyedState, keys_of
from eksml.streams.operators.makers import Maker
from eksml.streams.operators.objects import window_events
from eksml.streams.operators.room import Held
from eksml.streams.operators.trying import Trying
from eksml.streams.operators.window import LATE
from eksml.streams.watermarks import NEVER
from eksml.streams.windows import Session, Span

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class _Open:
    """A session that may still grow: it ends a gap after its last event."""

    start: int
    end: int
    aggregate: Any


class SessionWindows(Operator):
    """State: for each key its open sessions."""

    def __init__(self, window: Session, maker: Maker, context: Context) -> None:
        super().__init__(context)
        self._gap_us = window.gap_us
        self._maker = maker
        self._state = KeyedState(
            context.step,
            self._encode,
            self._decode,
            lambda key, sessions: min(each.end for each in sessions),
            context.state_memory,
        )
        self._ends = Alarms(self._state, lambda sessions: [each.end for each in sessions])
        self._closed = NEVER
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        import numpy as np

        assert batch.groups is not None
        keys = list(keys_of(batch, self.context.keys))
        self._ends.wind(self._state.bring(keys))
        places = zip(keys, batch.times.tolist(), batch.groups.tolist(), strict=True)
        late = np.zeros(len(batch), np.bool_)
        turn = enumerate(places)

        def add(event: Event) -> None:
            index, (key, time, group) = next(turn)
            late[index] = not self._add(key, time, group, event)

        await self._trying.once(batch, add)
        if late.any():
            self.context.counts.late += int(late.sum())
            await self.context.emit(batch.filter(late), LATE)
        self._ends.settle(keys)

    def _add(self, key: Key, time: int, group: int, event: Event) -> bool:
        """Put the event into its session, which may join others; False if that has ended."""
        sessions = self._state.get(key) or []
        end = time + self._gap_us
        touched = [each for each in sessions if each.start < end and time < each.end]
        if not touched and end <= self._closed:
            return False
        aggregate = touched[0].aggregate if touched else self._maker.new()
        self._maker.add(aggregate, event, time)
        for other in touched[1:]:
            self._maker.merge(aggregate, other.aggregate)
        start = min([time, *(each.start for each in touched)])
        end = max([end, *(each.end for each in touched)])
        rest = [each for each in sessions if each not in touched]
        self._state.set(key, [*rest, _Open(start, end, aggregate)], group)
        self._ends.set(end, key)
        return True

    async def on_watermark(self, watermark: int) -> None:
        await self._ends.ring(watermark, self._end_until)
        self._closed = max(self._closed, watermark)

    async def _end_until(self, watermark: int) -> None:
        done = []
        for end, key in self._ends.due(watermark):
            for each in self._state.get(key) or ():
                if each.end == end:
                    done.append((key, Span(each.start, end), self._maker.result(each.aggregate)))
                    self._remove(key, each)
        if done:
            await self.context.emit(window_events(self.context.keys, done))

    def _remove(self, key: Key, session: _Open) -> None:
        rest = [each for each in self._state.get(key) if each is not session]
        if rest:
            self._state.set(key, rest, self._state.group(key))
        else:
            self._state.delete(key)

    def _encode(self, sessions: list[_Open]) -> list[Any]:
        return [[each.start, each.end, vars(each.aggregate)] for each in sessions]

    def _decode(self, value: list[Any]) -> list[_Open]:
        return [_Open(start, end, self._maker.load(kept)) for start, end, kept in value]

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._state.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._state.restore(tables)
        self._closed = watermark
        self._ends.wind(key for key, _ in self._state.items())

    def size(self) -> int:
        return len(self._state)

    def held(self) -> Held:
        return self._state.held()
