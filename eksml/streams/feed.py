"""A source in a task: its reader, the times of its events, and how far they have come."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from eksml.streams.batch import Batch
from eksml.streams.durations import micros
from eksml.streams.operators.base import Context
from eksml.streams.operators.ends import Timestamps
from eksml.streams.operators.trying import Trying
from eksml.streams.runner import Runner
from eksml.streams.sources.base import EndOfSource, Reader, Source
from eksml.streams.watermarks import FOREVER, NEVER, Mark, SplitWatermarks

_IDLE = "10s"


class Feed:
    """Reads a source and emits its events, with their watermarks behind them."""

    def __init__(
        self,
        source: Source,
        reader: Reader,
        timing: Timestamps | None,
        runner: Runner,
        context: Context,
        times: Mapping[str, int],
    ) -> None:
        self.runner = runner
        self.ended = False
        self._source = source
        self._reader = reader
        self._timing = timing
        self._trying = Trying(context)
        self._restored = times
        delay, idle = (timing.delay, timing.idle) if timing else (0, _IDLE)
        self._marks = SplitWatermarks(micros(delay), micros(idle))
        self._mark: Mark = NEVER
        self._know_splits()

    async def step(self) -> bool:
        """Read once, without waiting, and emit. Returns whether there was anything."""
        if self.ended:
            return False
        try:
            read = await self._reader.read(0.0)
        except EndOfSource:
            await self.end()
            return False
        self._know_splits()
        if read is not None:
            await self._take(read.split, read.batch)
        for split in self._reader.ended():
            self._marks.end(split)
        await self._advance(self._marks.current(_now_us()))
        return read is not None

    async def _take(self, split: str, batch: Batch) -> None:
        self.runner.counts.events_in += len(batch)
        for part in await self._trying.columns(batch, self._decoded):
            if len(part):
                self._marks.observe(split, int(part.times.max()), _now_us())
                await self.runner.emit(part)

    def _decoded(self, batch: Batch) -> Batch:
        batch = self._source.decode(batch)
        if self._timing is None:
            return batch
        times = self._timing.times(batch)
        if batch.in_rows:
            return Batch(times, rows=batch.rows)
        return Batch(times, columns=batch.columns)

    def _know_splits(self) -> None:
        for split in self._reader.splits:
            self._marks.add(split, _now_us(), self._restored.get(split, NEVER))

    async def _advance(self, mark: Mark) -> None:
        if mark != self._mark:
            self._mark = mark
            await self.runner.hand_on(mark)

    async def end(self) -> None:
        """Nothing more comes: every window may end."""
        self.ended = True
        await self._advance(FOREVER)

    def positions(self) -> dict[str, dict[str, Any]]:
        """Where it is read to, and the latest event time of each split."""
        return {"at": self._reader.positions(), "times": dict(self._marks.newest)}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """These positions stand in a checkpoint."""
        await self._reader.committed(positions["at"])

    async def close(self) -> None:
        await self._reader.close()


def _now_us() -> int:
    return time.time_ns() // 1000
