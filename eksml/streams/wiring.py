"""The steps of a task, put together from its assignment."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.runs.record import ErrorRecord, json_view
from eksml.streams.assignment import STATE, Assignment
from eksml.streams.batch import Batch
from eksml.streams.channels import Address, ByKey, Channel, Forward
from eksml.streams.feed import Feed
from eksml.streams.keys import owned
from eksml.streams.operators.base import Context, Counts, Operator
from eksml.streams.operators.ends import SinkOperator, SinkStep, SourceStep, Timestamps
from eksml.streams.plan import DEAD_LETTERS, Edge
from eksml.streams.runner import Local, Runner, Stopwatch
from eksml.streams.sinks.base import Desk, Sink
from eksml.streams.snapshots import Chain, load
from eksml.streams.sources.base import Place, Source

if TYPE_CHECKING:
    import asyncio

    import pyarrow as pa

DRIVER = "driver"
"""The channel by which the coordinator sends barriers to tasks that read sources."""


class StepFailed(Exception):
    """A user's function failed on an event, and poison events have nowhere to go."""

    def __init__(self, step: str, record: ErrorRecord) -> None:
        super().__init__(f"{step}: {record.message}")
        self.step = step
        self.record = record


class Wiring:
    """Everything that a task consists of. Made once, when the task starts."""

    def __init__(
        self,
        assignment: Assignment,
        peers: Mapping[tuple[int, int], Any],
        lock: asyncio.Lock,
        fail: Callable[[BaseException], None],
    ) -> None:
        self._assignment = assignment
        self._plan = assignment.plan
        self._peers = peers
        self._lock = lock
        self._fail = fail
        self._stopwatch = Stopwatch()
        self.state_folder = assignment.run / STATE
        self.feeds: list[Feed] = []
        self.sinks: dict[str, SinkOperator] = {}
        self._by_name: dict[str, Runner] = {}
        self._contexts: dict[str, Context] = {}
        self._channels: dict[tuple[int, int], Channel] = {}
        self._marks: dict[tuple[Address, str], int] = {}

    async def make(self) -> Wiring:
        """Put everything together, sources and sinks open."""
        place = self._assignment
        names = self._plan.steps(place.stage)
        if place.dead_letters is not None:
            await self._make_dead_letters(place.dead_letters)
        for name in names:
            self._make_runner(name)
        for edge in self._plan.edges:
            if self._plan.stage_of[edge.source] == place.stage:
                self._connect(edge)
        for name in names:
            await self._make_operator(name)
        return self

    @property
    def runners(self) -> list[Runner]:
        return list(self._by_name.values())

    @property
    def channels_out(self) -> list[Channel]:
        return list(self._channels.values())

    @property
    def channels_in(self) -> list[str]:
        """Channels that bring barriers."""
        names = [
            _channel_name(stage, index)
            for stage in self._plan.senders(self._assignment.stage)
            for index in range(self._plan.parallelism)
        ]
        return [*names, DRIVER] if self._has_source() else names

    def _has_source(self) -> bool:
        steps = self._plan.steps(self._assignment.stage)
        return any(isinstance(self._plan.graph[name].spec, SourceStep) for name in steps)

    @property
    def ended(self) -> bool:
        """Whether all sources have ended."""
        return all(feed.ended for feed in self.feeds)

    def operators(self) -> Iterator[Operator]:
        """In the order in which events pass them; dead letters come last."""
        runners = sorted(self.runners, key=lambda runner: runner.name == DEAD_LETTERS)
        return (runner.operator for runner in runners if runner.operator is not None)

    def watermarks(self) -> dict[str, int]:
        """How far event time has come at each step that has state."""
        return {
            step.name: self._by_name[step.name].meeting.mark
            for step in self._plan.graph.steps
            if step.spec.stateful and step.name in self._by_name
        }

    def input(self, address: Address, channel: str) -> tuple[Runner, tuple[int, int]]:
        """Where what comes by a channel goes: the step, its input, and the input of its watermark:
        each channel of an exchange has its own."""
        runner = self._by_name[address.step]
        return runner, (address.side, self._marks[address, channel])

    def _make_runner(self, name: str) -> None:
        step = self._plan.graph[name]
        runner = Runner(name, self._num_marks(name), Counts(), self._stopwatch)
        self._by_name[name] = runner
        self._contexts[name] = self._context(name, runner, step.keys)

    def _num_marks(self, name: str) -> int:
        """Numbers the watermarks that come to a step: one for each local edge, one for each channel
        of an exchange."""
        count = 0
        for edge in [each for each in self._plan.edges if each.target == name]:
            address = Address(name, edge.side)
            for channel in self._senders(edge):
                self._marks[address, channel] = count
                count += 1
        return count

    def _senders(self, edge: Edge) -> list[str]:
        if edge.local:
            return [""]
        stage, index = self._plan.stage_of[edge.source], self._assignment.index
        indices = range(self._plan.parallelism) if edge.by_key else [index]
        return [_channel_name(stage, each) for each in indices]

    def _context(self, name: str, runner: Runner, keys: tuple[str, ...]) -> Context:
        async def reject(batch: Batch, error: Any, tries: int | None = None) -> None:
            await self._reject(name, batch, error, tries or self._assignment.tries)

        return Context(
            step=name,
            index=self._assignment.index,
            parallelism=self._plan.parallelism,
            keys=keys,
            run=self._assignment.run,
            emit=runner.emit,
            advance=runner.hand_on,
            reject=reject,
            lock=self._lock,
            fail=self._fail,
            tries=self._assignment.tries,
            counts=runner.counts,
            pool=self._assignment.pools.get(name, ()),
            state_memory=self._share_of_memory(),
        )

    def _share_of_memory(self) -> int | None:
        """What each of the task's steps with state may have."""
        whole = self._assignment.state_memory
        steps = self._plan.steps(self._assignment.stage)
        count = sum(self._plan.graph[name].spec.stateful for name in steps)
        return whole if whole is None else whole // max(1, count)

    async def _reject(self, step: str, batch: Batch, error: Any, tries: int) -> None:
        record = error if isinstance(error, ErrorRecord) else ErrorRecord.of(error)
        if DEAD_LETTERS not in self._by_name:
            raise StepFailed(step, record)
        self._by_name[step].counts.dead += len(batch)
        rows = [
            {
                "step": step,
                "event": json.dumps(json_view(row)),
                "error": record.type,
                "message": record.message,
                "traceback": record.traceback,
                "tries": tries,
            }
            for row in batch.rows
        ]
        await self._by_name[DEAD_LETTERS].take(0, Batch(batch.times, rows=rows))

    def _connect(self, edge: Edge) -> None:
        source = self._by_name[edge.source]
        address = Address(edge.target, edge.side)
        if edge.local:
            target = self._by_name[edge.target]
            source.connect(edge.port, Local(target, edge.side, self._marks[address, ""]))
            return
        stage = self._plan.stage_of[edge.target]
        if edge.by_key:
            channels = [self._channel(stage, index) for index in range(self._plan.parallelism)]
            source.connect(edge.port, ByKey(channels, address))
        else:
            channel = self._channel(stage, self._assignment.index)
            source.connect(edge.port, Forward(channel, address))

    def _channel(self, stage: int, index: int) -> Channel:
        """The channel to a task; barriers go by every one to a stage that gets any events."""
        for each in range(self._plan.parallelism):
            if (stage, each) not in self._channels:
                name = _channel_name(self._assignment.stage, self._assignment.index)
                handle = self._peers[stage, each]
                incarnation = self._assignment.incarnation
                self._channels[stage, each] = Channel(name, incarnation, handle)
        return self._channels[stage, index]

    async def _make_operator(self, name: str) -> None:
        spec = self._plan.graph[name].spec
        runner, context = self._by_name[name], self._contexts[name]
        if isinstance(spec, SourceStep):
            await self._make_feed(name, spec.endpoint, runner, context)
        elif isinstance(spec, SinkStep):
            await self._make_sink(name, spec.endpoint, runner, context)
        elif isinstance(spec, Timestamps):
            runner.operator = _Pass(context)
        else:
            runner.operator = spec.make(context)

    async def _make_feed(self, name: str, source: Source, runner: Runner, context: Context) -> None:
        restored = self._assignment.restored.positions.get(name, {})
        place = Place(name, context.index, context.parallelism, restored.get("at", {}))
        reader, timing = await source.reader(place), self._timing_of(name)
        times = restored.get("times", {})
        self.feeds.append(Feed(source, reader, timing, runner, context, times))

    def _timing_of(self, source: str) -> Timestamps | None:
        for step in self._plan.graph.steps:
            if isinstance(step.spec, Timestamps) and step.inputs[0][0] == source:
                return step.spec
        return None

    async def _make_sink(self, name: str, sink: Sink, runner: Runner, context: Context) -> None:
        place = self._assignment
        number = place.index
        if name == DEAD_LETTERS:
            number += place.stage * self._plan.parallelism
        desk = Desk(name, number, place.run, place.identity, place.attempt)
        operator = SinkOperator(await sink.writer(desk), context)
        runner.operator = self.sinks[name] = operator

    async def _make_dead_letters(self, sink: Sink) -> None:
        runner = Runner(DEAD_LETTERS, 1, Counts(), self._stopwatch)
        self._by_name[DEAD_LETTERS] = runner
        await self._make_sink(DEAD_LETTERS, sink, runner, self._context(DEAD_LETTERS, runner, ()))

    async def close(self) -> None:
        """Give up what sources, steps and sinks hold; errors of what is given up are nobody's."""
        parts: list[Feed | Operator] = [*self.feeds, *self.operators()]
        for part in parts:
            with contextlib.suppress(Exception):
                await part.close()

    def restore(self) -> dict[str, Chain]:
        """Give operators their state back; the chains that go on. May take long."""
        restored, place = self._assignment.restored, self._assignment
        same = restored.parallelism == self._plan.parallelism
        goes_on = same and restored.folder == self.state_folder
        chains: dict[str, Chain] = {}
        for runner in self.runners:
            if runner.operator is None or runner.name not in restored.watermarks:
                continue
            runner.meeting.restore(restored.watermarks[runner.name])
            found = restored.state.get(runner.name, [])
            mine = found[place.index : place.index + 1] if same else found
            groups = None if same else owned(place.index, self._plan.parallelism)
            tables = self._tables(mine, groups)
            runner.operator.restore(tables, runner.meeting.mark)
            if goes_on and mine:
                chains[runner.name] = Chain(list(mine[0]["parts"]), mine[0]["rows"])
        return chains

    def _tables(self, chains: list[dict[str, Any]], groups: range | None) -> Iterator[pa.Table]:
        for chain in chains:
            yield from load(self._assignment.restored.folder, chain, groups)


class _Pass(Operator):
    """Hands everything on: event times are the source's own work."""

    async def process(self, batch: Batch, side: int) -> None:
        await self.context.emit(batch)


def _channel_name(stage: int, index: int) -> str:
    return f"{stage}.{index}"
