"""A function of the user's as a sink."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import Problem
from eksml.streams.batch import Batch, single
from eksml.streams.operators.functions import Form, call, function_problems
from eksml.streams.sinks.base import Desk, Sink
from eksml.streams.sinks.staging import TIME, StagedWriter
from eksml.streams.sources.base import Guarantee

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Call(Sink):
    """Calls ``fn`` with micro-batches as they come, or with whole epochs once they are final."""

    kind: ClassVar[str] = "call"
    fn: Callable[..., Any]
    each_epoch: bool = False
    columns: Form = False

    @property
    def sink_guarantee(self) -> Guarantee:  # type: ignore[override]
        return "exactly-once" if self.each_epoch else "at-least-once"

    def problems(self) -> Iterator[Problem]:
        yield from function_problems("fn", self.fn, self.columns)

    def replaces(self) -> bool:
        """What an event does is the function's own affair."""
        return True

    async def writer(self, desk: Desk) -> _AtOnce | _EachEpoch:
        return _EachEpoch(self, desk) if self.each_epoch else _AtOnce(self)


class _AtOnce:
    """After a restart, events since the last checkpoint come again."""

    def __init__(self, sink: Call) -> None:
        self._sink = sink

    async def write(self, batch: Batch) -> None:
        given = _given(batch, self._sink)
        await _awaited(given)

    async def prepare(self, epoch: int) -> Any:
        """Nothing is kept."""

    async def commit(self, epoch: int, token: Any) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


class _EachEpoch(StagedWriter):
    """The same epoch may come again, from the same ``key``, always with the same events: who stores
    the key beside the effect has it once."""

    def __init__(self, sink: Call, desk: Desk) -> None:
        super().__init__(desk)
        self._sink = sink

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        times = table.column(TIME).to_numpy()
        batch = Batch(times, columns=single(table.drop_columns([TIME])))
        key = f"{self._desk.name_of(writer)}/{epoch}"
        await _awaited(_given(batch, self._sink, key))


def _given(batch: Batch, sink: Call, *more: Any) -> Any:
    if not sink.columns:
        return sink.fn(batch.rows, *more)
    return call(lambda columns: sink.fn(columns, *more), batch, sink.columns)


async def _awaited(value: Any) -> None:
    if inspect.isawaitable(value):
        await value
