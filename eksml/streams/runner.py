"""One step in one task: its operator, where its events come from, and where they go."""

from __future__ import annotations

import time
from typing import Protocol

from eksml.streams.batch import Batch
from eksml.streams.operators.base import MAIN, Counts, Operator
from eksml.streams.watermarks import Mark, Meeting


class Target(Protocol):
    """Takes the events of an output."""

    async def take(self, batch: Batch) -> None: ...

    async def advance(self, mark: Mark) -> None: ...


class Stopwatch:
    """Whose the time is: steps call each other, and each is told its own."""

    def __init__(self) -> None:
        self._of: Counts | None = None
        self._since = time.perf_counter()

    def switch(self, counts: Counts | None) -> Counts | None:
        """From now on the time belongs to ``counts``; returns whose it was."""
        now = time.perf_counter()
        before = self._of
        if before is not None:
            before.busy_s += now - self._since
        self._of, self._since = counts, now
        return before


class Runner:
    """Drives one operator."""

    def __init__(self, name: str, num_inputs: int, counts: Counts, stopwatch: Stopwatch) -> None:
        self.name = name
        self.counts = counts
        self.meeting = Meeting(max(1, num_inputs))
        self.operator: Operator | None = None
        """Set before events come; None for sources."""
        self._targets: dict[str, list[Target]] = {}
        self._stopwatch = stopwatch

    def connect(self, port: str, target: Target) -> None:
        """Send what leaves by ``port`` to ``target`` too."""
        self._targets.setdefault(port, []).append(target)

    async def take(self, side: int, batch: Batch) -> None:
        """Events for the operator."""
        assert self.operator is not None
        before = self._stopwatch.switch(self.counts)
        try:
            self.counts.events_in += len(batch)
            await self.operator.process(batch, side)
        finally:
            self._stopwatch.switch(before)

    async def advance(self, side: int, mark: Mark) -> None:
        """Event time of one input has come further."""
        assert self.operator is not None
        came_from = self.meeting.mark
        if not self.meeting.advance(side, mark):
            return
        before = self._stopwatch.switch(self.counts)
        try:
            if self.meeting.mark > came_from:
                await self.operator.on_watermark(self.meeting.mark)
            await self.operator.pass_on(self.meeting.output)
        finally:
            self._stopwatch.switch(before)

    async def emit(self, batch: Batch, port: str = MAIN) -> None:
        """Events from the operator."""
        if not len(batch):
            return
        self.counts.events_out += len(batch)
        for target in self._targets.get(port, ()):
            await target.take(batch)

    async def hand_on(self, mark: Mark) -> None:
        """A watermark from the operator."""
        for targets in self._targets.values():
            for target in targets:
                await target.advance(mark)


class Local:
    """The way to an input of a step in the same task: a call."""

    def __init__(self, runner: Runner, side: int, mark: int) -> None:
        self._runner = runner
        self._side = side
        self._mark = mark
        """The input of its watermark."""

    async def take(self, batch: Batch) -> None:
        await self._runner.take(self._side, batch)

    async def advance(self, mark: Mark) -> None:
        await self._runner.advance(self._mark, mark)
