"""One worker's work on one batch, from wherever the last one left it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import Literal

from eksml.errors import Damaged, NotFound
from eksml.runs import lease
from eksml.serving.batch_jobs.answers import Answer
from eksml.serving.batch_jobs.engine import Engine
from eksml.serving.batch_jobs.files import StoredFile, find_file
from eksml.serving.batch_jobs.lines import Block, Row
from eksml.serving.batch_jobs.places import files_of
from eksml.serving.batch_jobs.plan import RowReader, judge
from eksml.serving.batch_jobs.records import (
    Asked,
    Batch,
    Closing,
    End,
    LineError,
    Plan,
    Progress,
)
from eksml.serving.batch_jobs.results import (
    NOTHING,
    assemble,
    read_blocks,
    tally_of,
    write_block,
)
from eksml.serving.batch_jobs.rows import answer
from eksml.serving.batch_jobs.slots import Slot, Slots
from eksml.storage import URI

Stop = Literal["cancelled", "expired"]
_LOOK_S = 1.0
"""How often the owner looks whether its batch was cancelled, and says how far it is."""
_MOST_OPEN = 1024
"""Rows of a batch that are in memory, those included that wait to be tried again."""


@dataclass(frozen=True)
class Means:
    """What the batches of one worker share."""

    root: URI
    engine: Engine
    slots: Slots
    served: Collection[str]
    """What rows may say in ``model``."""
    most_line_bytes: int


@dataclass
class _OpenBlock:
    """A block whose rows are being answered."""

    index: int
    rows: list[Row]
    answers: dict[str, Answer] = field(default_factory=dict)

    def in_order(self) -> list[Answer]:
        """The answers so far, in the order of the input."""
        found = (self.answers.get(row.custom_id) for row in self.rows)
        return [answer for answer in found if answer is not None]


class Attempt:
    """Works on a batch that its worker has claimed. Storage is used in threads.

    Rows are answered in order, block after block; a block is committed once all its rows have
    answers, so that a worker that dies loses only what was in flight and its block-mates.
    """

    def __init__(self, batch: Batch, asked: Asked, owner: lease.Owner, means: Means) -> None:
        self._batch = batch
        self._asked = asked
        self._owner = owner
        self._means = means
        self._files = files_of(means.root, asked.tenant)
        self._open: dict[int, _OpenBlock] = {}
        self._committed = NOTHING
        self._places = asyncio.Semaphore(_MOST_OPEN)

    async def run(self) -> End:
        """Bring the batch to its end.

        Raises:
            Fenced: another worker took over; nothing more was written.
            StorageError: the storage did not answer; a later attempt goes on.
        """
        try:
            return await self._run()
        except (NotFound, Damaged) as error:
            # What is gone or broken stays so, and a client that waits should be told
            fault = LineError(code="storage_error", message=str(error))
            return await asyncio.to_thread(self._fail, [fault])

    async def _run(self) -> End:
        file = await asyncio.to_thread(find_file, self._files, self._asked.input_file_id)
        if file is None:
            told = f"The input file {self._asked.input_file_id} was deleted."
            fault = LineError(code="file_not_found", message=told)
            return await asyncio.to_thread(self._fail, [fault])
        plan = await asyncio.to_thread(self._plan, file)
        if isinstance(plan, End):
            return plan
        reader = RowReader(file, self._asked.endpoint)
        closing = await asyncio.to_thread(self._batch.closing)
        if closing is None:
            closing = await self._compute(plan, reader)
        end = await asyncio.to_thread(assemble, self._batch, self._files, closing, plan, reader)
        return await asyncio.to_thread(self._batch.finish, end)

    def _plan(self, file: StoredFile) -> Plan | End:
        """The plan, made unless it is there; or the end, if there is nothing to compute."""
        plan = self._batch.plan()
        if plan is not None:
            return plan
        stop = self._stop_sign()
        if stop is not None:
            return self._batch.finish(End(at=int(time.time()), status=stop))
        means = self._means
        judged = judge(
            file, self._asked.endpoint, means.served, most_line_bytes=means.most_line_bytes
        )
        if judged.errors:
            return self._fail(judged.errors)
        self._batch.write_plan(Plan(at=int(time.time()), total=judged.rows), judged.blocks)
        written = self._batch.plan()
        assert written is not None
        return written

    def _fail(self, errors: list[LineError]) -> End:
        end = End(at=int(time.time()), status="failed", errors=tuple(errors))
        return self._batch.finish(end)

    def _stop_sign(self) -> Stop | None:
        if self._batch.cancelled_at() is not None:
            return "cancelled"
        return "expired" if time.time() >= self._asked.expires_at else None

    async def _compute(self, plan: Plan, reader: RowReader) -> Closing:
        """Answer all rows that have no answer yet, or those that there is time for."""
        blocks = await asyncio.to_thread(self._batch.blocks)
        done = await asyncio.to_thread(read_blocks, self._batch, [block.index for block in blocks])
        for tally in done.values():
            self._committed = self._committed.plus(tally)
        todo = [block for block in blocks if block.index not in done]
        work = asyncio.create_task(self._answer(todo, reader))
        stop = await self._watch(work, plan)
        if stop is not None:
            await self._commit_unfinished()
        return await asyncio.to_thread(self._close, stop, blocks)

    def _close(self, stop: Stop | None, blocks: list[Block]) -> Closing:
        lease.check_fenced(self._batch.folder, self._owner.attempt)
        there = read_blocks(self._batch, [block.index for block in blocks])
        closing = Closing(at=int(time.time()), status=stop or "completed", blocks=tuple(there))
        return self._batch.close(closing)

    async def _watch(self, work: asyncio.Task[None], plan: Plan) -> Stop | None:
        """Wait for the work; end it early on cancellation or at the end of its time."""
        beat_s = time.monotonic()
        try:
            while not (await asyncio.wait([work], timeout=_LOOK_S))[0]:
                beat = time.monotonic() - beat_s >= lease.HEARTBEAT_S
                beat_s = time.monotonic() if beat else beat_s
                stop = await asyncio.to_thread(self._look, plan, beat)
                if stop is not None:
                    return stop
            work.result()
            return None
        finally:
            await _ended(work)

    def _look(self, plan: Plan, beat: bool) -> Stop | None:
        if beat:
            lease.check_fenced(self._batch.folder, self._owner.attempt)
            lease.write_lease(self._batch.folder, self._owner)
        tally = self._committed
        for block in list(self._open.values()):
            tally = tally.plus(tally_of(block.in_order()))
        counts = tally.counts.model_copy(update={"total": plan.total})
        self._batch.write_progress(Progress(counts=counts, usage=tally.usage))
        return self._stop_sign()

    async def _answer(self, blocks: list[Block], reader: RowReader) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                async for block in _read_ahead(blocks, reader):
                    self._open[block.index] = block
                    for row in block.rows:
                        await self._places.acquire()
                        slot = await self._means.slots.take()
                        task = group.create_task(self._row(block, row, slot))
                        task.add_done_callback(functools.partial(self._leave, slot))
        except ExceptionGroup as errors:
            raise _first(errors) from errors

    async def _row(self, block: _OpenBlock, row: Row, slot: Slot) -> None:
        found = await answer(row, self._asked.endpoint, self._means.engine, slot)
        block.answers[row.custom_id] = found
        if len(block.answers) == len(block.rows):
            await self._commit(block)

    def _leave(self, slot: Slot, task: asyncio.Task[None]) -> None:
        # Here and not in the task, which may be cancelled before it has begun
        slot.give_back()
        self._places.release()

    async def _commit(self, block: _OpenBlock) -> None:
        tally = await asyncio.to_thread(write_block, self._batch, block.index, block.in_order())
        del self._open[block.index]
        self._committed = self._committed.plus(tally)

    async def _commit_unfinished(self) -> None:
        """What is answered of the open blocks goes into the result of a batch that ends early."""
        for block in list(self._open.values()):
            if block.answers:
                await self._commit(block)


async def _read_ahead(blocks: list[Block], reader: RowReader) -> AsyncIterator[_OpenBlock]:
    """The blocks with their rows; the next one is read while one is answered."""

    def read(block: Block) -> asyncio.Task[list[Row]]:
        return asyncio.create_task(asyncio.to_thread(reader.read, block))

    coming = read(blocks[0]) if blocks else None
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        assert coming is not None
        rows = await coming
        coming = read(after) if after else None
        yield _OpenBlock(block.index, rows)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _ended(work: asyncio.Task[None]) -> None:
    """Cancel the work and wait until all of it is over; its errors were told, or do not count."""
    work.cancel()
    await asyncio.wait([work])
