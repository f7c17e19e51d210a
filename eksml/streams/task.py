"""The actor that does the work: the steps of one stage, for one worker."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from eksml.errors import EksmlError, StorageError
from eksml.runs.journal import Journal, source_name
from eksml.runs.record import ErrorRecord
from eksml.runs.tee import tee
from eksml.streams.alignment import Inbox
from eksml.streams.assignment import INCARNATIONS, Assignment
from eksml.streams.channels import LOST, Lost, Message, PeerLost
from eksml.streams.operators.base import Operator
from eksml.streams.operators.room import Held
from eksml.streams.parcel import Parcel
from eksml.streams.snapshots import Chain, store
from eksml.streams.wiring import DRIVER, StepFailed, Wiring

T = TypeVar("T")

_LINGER_S = 0.005
"""How long a few events wait for more before they go to the next task."""
_IDLE_S = 0.005
"""Pause between looks at sources that have nothing."""


@dataclass(frozen=True)
class Failure:
    """Why a task cannot go on."""

    error: ErrorRecord
    step: str
    final: bool
    """Another start would end in the same way: it is an error of the user's code or data."""


@dataclass(frozen=True)
class Snapshot:
    """What a task has to say for a checkpoint."""

    state: dict[str, dict[str, Any]]
    """The chain of each step."""
    watermarks: dict[str, int]
    """Of each step that has state. It has come by an exchange, so that all its tasks agree."""
    positions: dict[str, dict[str, Any]]
    prepared: dict[str, Any]
    num_bytes: int
    """Written for this checkpoint."""
    seconds: float
    """For which no event was worked on."""


def _guarded(method: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T | Lost]]:
    """Refuse what comes from an older incarnation, by the first argument. What goes wrong is told
    by :meth:`Task.failure`; the caller gets ``LOST``, for which Ray logs nothing if nobody looks.
    """

    @functools.wraps(method)
    async def guarded(self: Task, incarnation: int, *args: Any) -> T | Lost:
        while incarnation > self._incarnation:  # calls may overtake the one of begin
            await self._begun.wait()
        if incarnation != self._incarnation:
            return LOST
        current = asyncio.current_task()
        assert current is not None
        self._calls.add(current)
        try:
            return await method(self, *args)
        except PeerLost:
            return LOST
        except Exception as error:
            self._fail(error)
            return LOST
        finally:
            self._calls.discard(current)

    del guarded.__wrapped__  # Ray would check arguments against it
    return guarded


class Task:
    """An asynchronous actor. All of its work is done under one lock, a message at a time."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[Any]] = set()
        self._begun = asyncio.Event()
        self._beginning = asyncio.Lock()
        self._logs = contextlib.ExitStack()
        self._clear(0)

    def _clear(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._failed: Failure | None = None
        self._has_failed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._snapshots: dict[int, asyncio.Future[Snapshot]] = {}
        self._flushed_s = 0.0
        self._wiring: Wiring | None = None

    @property
    def _wired(self) -> Wiring:
        assert self._wiring is not None, "start comes first"
        return self._wiring

    async def begin(self, incarnation: int) -> None:
        """Forget everything that was, and be part of a new incarnation; never of an older one.

        Where crews are lost one after the other, the next call comes while this one works."""
        async with self._beginning:
            if incarnation <= self._incarnation:
                return
            for call in list(self._calls):
                call.cancel()
            if self._wiring is not None:
                await self._wiring.close()
            with contextlib.suppress(StorageError):  # what it printed; its successor has more to do
                await asyncio.to_thread(self._logs.close)
            self._clear(incarnation)
            self._begun.set()
            self._begun = asyncio.Event()

    @_guarded
    async def start(
        self, common: Parcel, stage: int, index: int, peers: dict[tuple[int, int], Any]
    ) -> None:
        """Take up the state, and finish what a checkpoint left to be committed.

        ``common`` are the fields of :class:`Assignment` that all tasks share."""
        with self._settled_heap():
            await self._start(common, stage, index, peers)

    async def _start(
        self, common: Parcel, stage: int, index: int, peers: dict[tuple[int, int], Any]
    ) -> None:
        self._assignment = assignment = Assignment(stage=stage, index=index, **common.open())
        self._keep_logs(assignment)
        wiring = Wiring(assignment, peers, self._lock, self._fail)
        self._wiring = await wiring.make()
        self._inbox = Inbox(wiring.channels_in)
        self._chains = await asyncio.to_thread(wiring.restore)
        restored = assignment.restored
        for name, sink in self._wired.sinks.items():
            first = assignment.stage == assignment.plan.stage_of.get(name, 0)
            tokens = restored.prepared.get(name, []) if first else []
            for token in tokens[assignment.index :: assignment.plan.parallelism]:
                await sink.writer.commit(restored.epoch, token)

    @contextlib.contextmanager
    def _settled_heap(self) -> Iterator[None]:
        """Let go of what was here before, and spare the collector of garbage what comes and stays:
        it would go through all modules and all state again and again, which takes a third of the
        time where events are Python objects."""
        gc.unfreeze()
        gc.collect()
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()

    def _keep_logs(self, place: Assignment) -> None:
        """Copy what users' functions print into the run's logs."""
        incarnation = place.incarnation % INCARNATIONS
        writer = source_name(place.attempt, incarnation, f"task{place.stage}.{place.index}")
        journal = self._logs.enter_context(Journal(place.run / "logs", writer))
        self._logs.enter_context(tee(journal))

    async def finish_logs(self, incarnation: int) -> None:
        """Write out what was printed, at the end of the stream."""
        if incarnation == self._incarnation:
            await asyncio.to_thread(self._logs.close)

    @_guarded
    async def failure(self) -> Failure:
        """Answers when the task has failed, and with why."""
        await self._has_failed.wait()
        assert self._failed is not None
        return self._failed

    @_guarded
    async def read(self, budget_s: float) -> bool:
        """Read sources for so long. Returns whether they have all ended."""
        end_s = time.monotonic() + budget_s
        while time.monotonic() < end_s and not self._wired.ended:
            async with self._lock:
                found = [await feed.step() for feed in self._wired.feeds]
                await self._flush(now=not any(found))
            await asyncio.sleep(0 if any(found) else _IDLE_S)
        async with self._lock:
            await self._flush(now=True)
        return self._wired.ended

    @_guarded
    async def drain(self) -> None:
        """Read no more: time has come to its end, and every window with it."""
        async with self._lock:
            for feed in self._wired.feeds:
                if not feed.ended:
                    await feed.end()
            await self._flush(now=True)

    @_guarded
    async def push(self, channel: str, number: int, message: Message) -> None:
        """Take a message from another task; answers once it has been worked on, which is the
        sender's leave to send another."""
        await self._inbox.turn(channel, number)
        async with self._lock:
            await self._work_on(channel, message)
        self._inbox.done(channel)

    async def _work_on(self, channel: str, message: Message) -> None:
        for address, batch in message.events:
            runner, side = self._wired.input(address, channel)
            await runner.take(side[0], batch)
        for address, mark in message.marks:
            runner, side = self._wired.input(address, channel)
            await runner.advance(side[1], mark)
        if message.barrier is not None:
            await self._arrive(channel, message.barrier)
        await self._flush(now=not self._inbox.num_waiting)

    @_guarded
    async def barrier(self, epoch: int) -> None:
        """Begin a checkpoint here: for tasks that read sources."""
        async with self._lock:
            await self._arrive(DRIVER, epoch)

    async def _arrive(self, channel: str, epoch: int) -> None:
        if self._inbox.alignment.arrive(channel, epoch):
            await self._take_snapshot(epoch)
            self._inbox.aligned()

    async def _take_snapshot(self, epoch: int) -> None:
        began_s = time.perf_counter()
        for operator in self._wired.operators():
            await operator.flush()
        changes = {
            runner.name: self._changes(runner.name, runner.operator)
            for runner in self._wired.runners
            if runner.operator is not None
        }
        positions = {feed.runner.name: feed.positions() for feed in self._wired.feeds}
        watermarks = self._wired.watermarks()
        prepared = {
            name: await sink.writer.prepare(epoch) for name, sink in self._wired.sinks.items()
        }
        for channel in self._wired.channels_out:
            await channel.flush(barrier=epoch)
        seconds = time.perf_counter() - began_s
        self._keep(lambda: self._store(epoch, changes, watermarks, positions, prepared, seconds))

    def _changes(self, name: str, operator: Operator) -> tuple[Iterable[Any], bool]:
        """What changed in a step's state, and whether it is all of it."""
        chain = self._chains.get(name)
        full = chain is None or chain.has_grown(operator.size())
        return operator.snapshot(full), full

    async def _store(
        self,
        epoch: int,
        changes: dict[str, tuple[Iterable[Any], bool]],
        watermarks: dict[str, int],
        positions: dict[str, dict[str, Any]],
        prepared: dict[str, Any],
        seconds: float,
    ) -> None:
        num_bytes = 0
        for name, (tables, full) in changes.items():
            if full:
                self._chains[name] = Chain([])
            num_bytes += await asyncio.to_thread(self._write, epoch, name, tables)
        state = {name: chain.as_json() for name, chain in self._chains.items() if chain.parts}
        done = Snapshot(state, watermarks, positions, prepared, num_bytes, seconds)
        self._snapshot(epoch).set_result(done)

    def _write(self, epoch: int, name: str, tables: Iterable[Any]) -> int:
        """Write a step's changes as parts of its chain; their bytes."""
        place, num_bytes = self._assignment, 0
        for number, table in enumerate(tables):
            file = f"{place.attempt:06d}-{name}-{place.index:04d}-{epoch:08d}-{number:04d}"
            part = store(self._wired.state_folder, file, table)
            self._chains[name].add(part, table.num_rows)
            num_bytes += part.size
        return num_bytes

    def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it beside everything else; errors end the task."""

        async def guarded() -> None:
            try:
                await work()
            except PeerLost:
                return
            except Exception as error:
                self._fail(error)

        task = asyncio.create_task(guarded())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    def _snapshot(self, epoch: int) -> asyncio.Future[Snapshot]:
        return self._snapshots.setdefault(epoch, asyncio.get_running_loop().create_future())

    @_guarded
    async def snapshot(self, epoch: int) -> Snapshot:
        """Answers when this task's part of a checkpoint is in storage."""
        found = await self._snapshot(epoch)
        del self._snapshots[epoch]
        return found

    @_guarded
    async def commit(
        self, epoch: int, prepared: dict[str, Any], positions: dict[str, dict[str, Any]]
    ) -> None:
        """The checkpoint stands: make the effects of its epoch happen."""
        for name, token in prepared.items():
            if token is not None:
                await self._wired.sinks[name].writer.commit(epoch, token)
        for feed in self._wired.feeds:
            await feed.committed(positions[feed.runner.name])

    @_guarded
    async def status(self) -> dict[str, Any]:
        """Counts of each step, and how far event time has come there."""
        rows = {}
        for runner in self._wired.runners:
            held = runner.operator.held() if runner.operator else Held(0)
            rows[runner.name] = {
                **asdict(runner.counts),
                "watermark": runner.meeting.mark,
                "state_bytes": held.memory,
                "disk_bytes": held.disk,
            }
        blocked_s = sum(channel.blocked_s for channel in self._wired.channels_out)
        return {"steps": rows, "blocked_s": blocked_s, "waiting": self._inbox.num_waiting}

    async def _flush(self, now: bool) -> None:
        """Send small rests on, if nothing else comes or they have waited long enough."""
        if now or time.monotonic() - self._flushed_s > _LINGER_S:
            for channel in self._wired.channels_out:
                await channel.flush()
            self._flushed_s = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        if self._failed is not None:
            return
        step = ""
        if isinstance(error, StepFailed):
            record, step, final = error.record, error.step, True
        else:
            record = ErrorRecord.of(error)
            final = isinstance(error, EksmlError) and not isinstance(error, StorageError)
        self._failed = Failure(record, step, final)
        self._has_failed.set()
