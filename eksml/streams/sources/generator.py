"""A Python generator as a source: for tests, simulations and replays."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch, Event, as_table, single
from eksml.streams.sources.base import EndOfSource, Guarantee, Place, Read, Source

_MOST_EVENTS = 4096
_PATIENCE_S = 0.005
"""How long events are collected until they go on."""


@dataclass(frozen=True)
class Generator(Source):
    """``fn(split, start)`` yields the events of a split from number ``start`` on, the same each
    time: dictionaries, lists of them, or Arrow tables, whose rows count one by one. An empty list
    says that there is nothing at present."""

    kind: ClassVar[str] = "generator"
    source_guarantee: ClassVar[Guarantee] = "exactly-once"
    fn: Callable[[int, int], Any]
    splits: int = 1

    def problems(self) -> Iterator[Problem]:
        if not callable(self.fn):
            remedy = "Give fn(split, start) that yields events from number start on."
            yield Problem("fn", f"{self.fn!r:.60} is not a function.", remedy)
        if isinstance(self.splits, bool) or not (isinstance(self.splits, int) and self.splits > 0):
            yield Problem("splits", f"{self.splits!r} is no whole number above 0.")

    async def reader(self, place: Place) -> _Reader:
        names = place.mine([f"{split:06d}" for split in range(self.splits)])
        return _Reader([_Split(name, self.fn, place.positions.get(name, 0)) for name in names])


class _Split:
    """One split and its generator, begun at the first read."""

    def __init__(self, name: str, fn: Callable[[int, int], Any], start: int) -> None:
        self.name = name
        self.position = start
        self.ended = False
        self._fn = fn
        self._iterator: Iterator[Any] | None = None

    def read(self) -> Batch | None:
        """What it yields next; None if that is nothing."""
        if self._iterator is None:
            self._iterator = iter(self._fn(int(self.name), self.position))
        events: list[Event] = []
        end_s = time.perf_counter() + _PATIENCE_S
        for value in self._iterator:
            if not isinstance(value, Mapping | list):
                batch = _batch_of(value)
                self.position += len(batch)
                if events:  # a generator that mixes both: keep their order
                    return _together(events, batch)
                return batch if len(batch) else None
            events += value if isinstance(value, list) else [dict(value)]
            self.position += len(value) if isinstance(value, list) else 1
            if len(events) >= _MOST_EVENTS or time.perf_counter() > end_s:
                return _of_rows(events) if events else None
        self.ended = True
        return _of_rows(events) if events else None


class _Reader:
    """Reads its splits in turn."""

    def __init__(self, splits: Sequence[_Split]) -> None:
        self._splits = list(splits)
        self._turn = 0

    async def read(self, wait_s: float) -> Read | None:
        open_ = [split for split in self._splits if not split.ended]
        if not open_:
            raise EndOfSource
        self._turn += 1
        split = open_[self._turn % len(open_)]
        batch = split.read()
        return None if batch is None else Read(split.name, batch)

    @property
    def splits(self) -> Sequence[str]:
        return [split.name for split in self._splits]

    def ended(self) -> Sequence[str]:
        return [split.name for split in self._splits if split.ended]

    def positions(self) -> dict[str, Any]:
        return {split.name: split.position for split in self._splits}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Nothing: the generator can always be asked again."""

    async def close(self) -> None:
        """Nothing is open."""


def _of_rows(events: list[Event]) -> Batch:
    return Batch(_now(len(events)), rows=events)


def _batch_of(value: Any) -> Batch:
    import pyarrow as pa

    if not isinstance(value, pa.Table | pa.RecordBatch):
        raise CallError(
            f"the generator yielded {type(value).__name__}; "
            "yield a dictionary, a list of dictionaries or an Arrow table."
        )
    columns = single(as_table(value))
    return Batch(_now(columns.num_rows), columns=columns)


def _together(events: list[Event], batch: Batch) -> Batch:
    return _of_rows([*events, *batch.rows])


def _now(count: int) -> Any:
    import numpy as np

    return np.full(count, time.time_ns() // 1000, np.int64)
