"""The two ends of a graph, and event times: steps that a task treats in its own way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch
from eksml.streams.durations import Duration, duration_problems
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.operators.functions import function_problems
from eksml.streams.sinks.base import Sink, Writer
from eksml.streams.sources.base import Source

if TYPE_CHECKING:
    import numpy as np

_UNITS_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


@dataclass(frozen=True)
class SourceStep(Spec):
    """Where events come from."""

    endpoint: Any

    @property
    def kind(self) -> str:  # type: ignore[override]
        return str(getattr(self.endpoint, "kind", "source"))

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.endpoint, Source):
            yield from self.endpoint.problems()
        else:
            yield Problem("source", f"{self.endpoint!r:.60} is no source.", "It is a sink.")


@dataclass(frozen=True)
class SinkStep(Spec):
    """Where events go."""

    endpoint: Any

    @property
    def kind(self) -> str:  # type: ignore[override]
        return f"to_{getattr(self.endpoint, 'kind', 'sink')}"

    def problems(self) -> Iterator[Problem]:
        if isinstance(self.endpoint, Sink):
            yield from self.endpoint.problems()
        else:
            remedy = "Give one of eksml.streams, such as files(…) or callable(…)."
            yield Problem("sink", f"{self.endpoint!r:.60} is no sink.", remedy)


@dataclass(frozen=True)
class Timestamps(Spec):
    """Event times, and how long to wait for events that are late."""

    kind: ClassVar[str] = "with_time"
    column: str | Callable[[Any], Any]
    unit: str = "s"
    delay: Duration = 0
    idle: Duration = "10s"

    def problems(self) -> Iterator[Problem]:
        if not isinstance(self.column, str):
            yield from function_problems("column", self.column)
        if self.unit not in _UNITS_US:
            yield Problem("unit", f"{self.unit!r} is no unit.", "Use 's', 'ms' or 'us'.")
        yield from duration_problems("delay", self.delay, positive=False)
        yield from duration_problems("idle", self.idle)

    def times(self, batch: Batch) -> np.ndarray:
        """The event times of a batch, microseconds.

        Raises:
            CallError: There are none in the column, or some are missing.
        """
        import numpy as np
        import pyarrow as pa

        from eksml.streams.batch import array

        if isinstance(self.column, str):
            column = batch.column(self.column)
        else:
            column = array([self.column(row) for row in batch.rows], "time")
        if column.null_count:
            raise CallError(f"{column.null_count} events have no time in {self.column!r:.60}.")
        kind = column.type
        times: np.ndarray
        if pa.types.is_timestamp(kind):
            times = column.cast(pa.timestamp("us", kind.tz)).cast(pa.int64()).to_numpy()
        elif pa.types.is_integer(kind):
            times = column.cast(pa.int64()).to_numpy() * _UNITS_US[self.unit]
        elif pa.types.is_floating(kind):
            times = np.rint(column.to_numpy() * _UNITS_US[self.unit]).astype(np.int64)
        else:
            told = f"{self.column!r:.60} is {kind}."
            raise CallError(f"{told} Event times are numbers or timestamps.")
        return times


class SinkOperator(Operator):
    """Hands events to a writer; the task tells it of epochs."""

    def __init__(self, writer: Writer, context: Context) -> None:
        super().__init__(context)
        self.writer = writer

    async def process(self, batch: Batch, side: int) -> None:
        await self.writer.write(batch)
        self.context.counts.events_out += len(batch)

    async def close(self) -> None:
        await self.writer.close()
