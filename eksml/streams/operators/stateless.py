"""map, flat_map, filter, union: steps that remember nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import Problem
from eksml.streams.batch import Batch
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import (
    Form,
    call,
    event_of,
    function_problems,
    mask_of,
    record_batch,
)
from eksml.streams.operators.side import Outputs
from eksml.streams.operators.trying import Trying

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Map(Spec):
    """One event for each."""

    kind: ClassVar[str] = "map"
    fn: Callable[[Any], Any]
    columns: Form = False

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn, self.columns)

    def make(self, context: Context) -> Operator:
        return _Map(self, context)


@dataclass(frozen=True)
class Filter(Spec):
    """Some of the events."""

    kind: ClassVar[str] = "filter"
    keeps_key: ClassVar[bool] = True
    fn: Callable[[Any], Any]
    columns: Form = False

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn, self.columns)

    def make(self, context: Context) -> Operator:
        return _Filter(self, context)


@dataclass(frozen=True)
class FlatMap(Spec):
    """Any number of events for each."""

    kind: ClassVar[str] = "flat_map"
    fn: Callable[[Any], Any]

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn)

    def outputs(self) -> tuple[str, ...]:
        return ("*",)

    def make(self, context: Context) -> Operator:
        return _FlatMap(self, context)


@dataclass(frozen=True)
class Union(Spec):
    """The events of several streams."""

    kind: ClassVar[str] = "union"

    def make(self, context: Context) -> Operator:
        return _Union(context)


class _Map(Operator):
    def __init__(self, spec: Map, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        if self._spec.columns:
            done = await self._trying.columns(batch, self._map_columns)
        else:
            kept, results = await self._trying.rows(batch, self._spec.fn)
            if any(type(value) is not dict for value in results):
                kept, results = await self._trying.rows(kept.with_rows(results), event_of)
            done = [kept.with_rows(results)] if results else []
        for part in done:
            await self.context.emit(part)

    def _map_columns(self, batch: Batch) -> Batch:
        value = call(self._spec.fn, batch, self._spec.columns)
        return batch.with_columns(record_batch(value, len(batch)))


class _Filter(Operator):
    def __init__(self, spec: Filter, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        if self._spec.columns:
            done = await self._trying.columns(batch, self._filter_columns)
        else:
            kept, verdicts = await self._trying.rows(batch, self._spec.fn)
            done = [kept.filter(_booleans(verdicts))] if verdicts else []
        for part in done:
            if len(part):
                await self.context.emit(part)

    def _filter_columns(self, batch: Batch) -> Batch:
        value = call(self._spec.fn, batch, self._spec.columns)
        return batch.filter(mask_of(value, len(batch)))


class _FlatMap(Operator):
    def __init__(self, spec: FlatMap, context: Context) -> None:
        super().__init__(context)
        self._spec = spec
        self._trying = Trying(context)

    async def process(self, batch: Batch, side: int) -> None:
        kept, results = await self._trying.rows(batch, self._expand)
        outputs = Outputs()
        for time, events in zip(kept.times.tolist(), results, strict=True):
            for event in events:
                outputs.add(event, time)
        await outputs.emit(self.context)

    def _expand(self, event: Any) -> list[Any]:
        return list(self._spec.fn(event) or ())


class _Union(Operator):
    async def process(self, batch: Batch, side: int) -> None:
        await self.context.emit(Batch(batch.times, columns=batch.columns))


def _booleans(values: list[Any]) -> np.ndarray:
    import numpy as np

    return np.fromiter(map(bool, values), np.bool_, len(values))
