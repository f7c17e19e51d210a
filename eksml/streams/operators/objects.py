"""Tumbling and sliding windows with a class of the user's: an object for each key and pane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eksml.streams.batch import Batch, Event
from eksml.streams.operators.base import Context, Operator
from eksml.streams.operators.columnar import sort_out_late
from eksml.streams.operators.key_text import Key
from eksml.streams.operators.keyed import KeyedState, keys_of
from eksml.streams.operators.makers import Maker
from eksml.streams.operators.room import Held
from eksml.streams.operators.trying import Trying
from eksml.streams.watermarks import NEVER
from eksml.streams.windows import Sliding, Span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class ObjectWindows(Operator):
    """State: for each key and pane an aggregate."""

    def __init__(self, window: Sliding, maker: Maker, context: Context, lateness_us: int) -> None:
        super().__init__(context)
        self._window = window
        self._lateness_us = lateness_us
        self._maker = maker
        self._state = KeyedState(
            context.step, vars, maker.load, self._next_use, context.state_memory
        )
        self._panes: dict[int, set[Key]] = {}
        self._closed = NEVER
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        panes = batch.times - batch.times % self._window.pane_us
        late = self._ends(panes) <= self._expired
        batch, panes = await sort_out_late(batch, panes, late, self.context)
        if not len(batch):
            return
        assert batch.groups is not None
        places = list(
            zip(
                keys_of(batch, self.context.keys),
                panes.tolist(),
                batch.times.tolist(),
                batch.groups.tolist(),
                strict=True,
            )
        )
        used = [(*key, pane) for key, pane, _, _ in places]
        self._find_in_panes(self._state.bring(used))
        turn = iter(places)

        def add(event: Event) -> None:
            key, pane, time, group = next(turn)
            self._add(key, pane, time, group, event)

        await self._trying.once(batch, add)
        await self._update(places)
        if self._state.settle(used):
            self._panes = {}
            self._find_in_panes(place for place, _ in self._state.items())

    def _find_in_panes(self, places: Iterable[Key]) -> None:
        """Know of these aggregates that they are in memory."""
        for place in places:
            self._panes.setdefault(place[-1], set()).add(place[:-1])

    def _next_use(self, place: Key, aggregate: Any) -> int:
        """When the next window ends that needs an aggregate, or nobody needs it any more."""
        pane = place[-1]
        ends = (span.end for span in self._window.spans_of(pane))
        last = self._window.last_end(pane) + self._lateness_us
        return min((end for end in ends if end > self._closed), default=last)

    async def _update(self, places: Sequence[tuple[Key, int, int, int]]) -> None:
        """Give those keys of windows again that were given out without these events."""
        touched: dict[Span, set[Key]] = {}
        for key, pane in {(key, pane) for key, pane, _, _ in places}:
            for span in self._window.due([pane], self._expired, self._closed):
                touched.setdefault(span, set()).add(key)
        for span in sorted(touched):
            panes = range(span.start, span.end, self._window.pane_us)
            needed = ((*key, pane) for key in touched[span] for pane in panes)
            self._find_in_panes(self._state.bring(needed))
            await self.context.emit(self._result(span, touched[span]))

    @property
    def _expired(self) -> int:
        """Windows that end until then take no events any more."""
        return max(NEVER, self._closed - self._lateness_us)

    def _ends(self, panes: np.ndarray) -> np.ndarray:
        ends: np.ndarray = panes - panes % self._window.slide_us + self._window.size_us
        return ends

    def _add(self, key: Key, pane: int, time: int, group: int, event: Event) -> None:
        place = (*key, pane)
        aggregate = self._state.get(place)
        if aggregate is None:
            aggregate = self._maker.new()
        self._maker.add(aggregate, event, time)
        self._state.set(place, aggregate, group)
        self._panes.setdefault(pane, set()).add(key)

    async def on_watermark(self, watermark: int) -> None:
        if watermark <= self._closed:
            return
        before, self._closed = self._closed, watermark
        groups = self._state.groups_due(watermark)
        if not groups:
            await self._close(before, None)
            return
        for group, keys in self._by_group(groups).items():
            brought = self._state.bring_due(group, watermark) if group in groups else []
            self._find_in_panes(brought)
            await self._close(before, keys | {place[:-1] for place in brought})
            self._put_back(brought)

    def _by_group(self, groups: Iterable[int]) -> dict[int, set[Key]]:
        """The keys that have something in memory by their groups, and these groups in any case."""
        found: dict[int, set[Key]] = {group: set() for group in groups}
        for place, _ in self._state.items():
            found.setdefault(self._state.group(place), set()).add(place[:-1])
        return found

    def _put_back(self, places: Sequence[Key]) -> None:
        left = [place for place in places if place in self._state]
        self._state.evict(left)
        for place in left:
            self._panes[place[-1]].discard(place[:-1])

    async def _close(self, before: int, only: set[Key] | None) -> None:
        """Give out the windows that have ended since ``before``, of these keys or of all, and
        forget what nobody needs any more."""
        for span in self._window.due(self._panes, before, self._closed):
            await self.context.emit(self._result(span, only))
        for pane in [p for p in self._panes if self._window.last_end(p) <= self._expired]:
            keys = self._panes[pane]
            gone = set(keys) if only is None else keys & only
            keys -= gone
            for key in gone:
                self._state.delete((*key, pane))
            if not keys:
                del self._panes[pane]

    def _result(self, span: Span, only: set[Key] | None = None) -> Batch:
        """What the window gives of these keys, or of all."""
        found: dict[Key, Any] = {}
        for pane in range(span.start, span.end, self._window.pane_us):
            keys = self._panes.get(pane, set())
            for key in sorted(keys if only is None else keys & only, key=repr):
                aggregate = self._state.get((*key, pane))
                if self._window.pane_us < self._window.size_us:
                    merged = found.setdefault(key, self._maker.new())
                    self._maker.merge(merged, aggregate)
                else:
                    found[key] = aggregate
        results = {key: self._maker.result(aggregate) for key, aggregate in found.items()}
        return window_events(self.context.keys, [(key, span, results[key]) for key in results])

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        return self._state.snapshot(full)

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        self._closed = watermark
        self._state.restore(tables)
        self._find_in_panes(place for place, _ in self._state.items())

    def size(self) -> int:
        return len(self._state)

    def held(self) -> Held:
        return self._state.held()


def window_events(
    names: tuple[str, ...], results: Sequence[tuple[Key, Span, Mapping[str, Any]]]
) -> Batch:
    """Results of windows as events: key columns, results, bounds; at each window's last moment."""
    import numpy as np

    rows = [
        {
            **dict(zip(names, key, strict=True)),
            **result,
            "window_start": datetime_of(span.start),
            "window_end": datetime_of(span.end),
        }
        for key, span, result in results
    ]
    times = np.array([span.end - 1 for _, span, _ in results], np.int64)
    return Batch(times, rows=rows)


def datetime_of(time_us: int) -> Any:
    """The moment as Python has it, in UTC."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
