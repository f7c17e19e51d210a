"""One worker's work on one batch, from wherever the last one left it."""

from __future__ import annotations

import asyncio
import time
from typing import Literal

from eksml.errors import Damaged, EksmlError, NotFound
from eksml.runs import lease
from eksml.serving.batch_jobs.answering import Answering, Means
from eksml.serving.batch_jobs.care import Care
from eksml.serving.batch_jobs.files import StoredFile, find_file
from eksml.serving.batch_jobs.places import files_of
from eksml.serving.batch_jobs.plan import RowReader, judge
from eksml.serving.batch_jobs.records import Asked, Batch, Closing, End, LineError, Plan, Progress
from eksml.serving.batch_jobs.results import assemble, read_blocks

Stop = Literal["cancelled", "expired"]
_LOOK_S = 1.0
"""How often the owner looks whether its batch was cancelled, and says how far it is."""


class Attempt:
    """Works on a batch that its worker has claimed. Storage is used in threads."""

    def __init__(self, batch: Batch, asked: Asked, owner: lease.Owner, means: Means) -> None:
        self._batch = batch
        self._asked = asked
        self._owner = owner
        self._means = means
        self._files = files_of(means.root, asked.tenant)

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
        indexes = [block.index for block in blocks]
        done = await asyncio.to_thread(read_blocks, self._batch, indexes)
        care = await asyncio.to_thread(Care, self._batch)
        answering = Answering(self._batch, self._asked.endpoint, self._means, care, done.values())
        todo = [block for block in blocks if block.index not in done]
        work = asyncio.create_task(answering.answer(todo, reader))
        try:
            stop = await self._watch(work, plan, answering)
        except (asyncio.CancelledError, EksmlError):
            await asyncio.to_thread(care.stop_in_peace)
            raise
        if stop is not None:
            await answering.commit_unfinished()
        return await asyncio.to_thread(self._close, stop, indexes)

    def _close(self, stop: Stop | None, blocks: list[int]) -> Closing:
        lease.check_fenced(self._batch.folder, self._owner.attempt)
        there = read_blocks(self._batch, blocks)
        closing = Closing(at=int(time.time()), status=stop or "completed", blocks=tuple(there))
        return self._batch.close(closing)

    async def _watch(
        self, work: asyncio.Task[None], plan: Plan, answering: Answering
    ) -> Stop | None:
        """Wait for the work; end it early on cancellation or at the end of its time."""
        beat_s = time.monotonic()
        try:
            while not (await asyncio.wait([work], timeout=_LOOK_S))[0]:
                beat = time.monotonic() - beat_s >= lease.HEARTBEAT_S
                beat_s = time.monotonic() if beat else beat_s
                counts, usage = answering.tally()
                progress = Progress(
                    counts=counts.model_copy(update={"total": plan.total}), usage=usage
                )
                stop = await asyncio.to_thread(self._look, progress, beat)
                if stop is not None:
                    return stop
            work.result()
            return None
        finally:
            await _ended(work)

    def _look(self, progress: Progress, beat: bool) -> Stop | None:
        if beat:
            lease.check_fenced(self._batch.folder, self._owner.attempt)
            lease.write_lease(self._batch.folder, self._owner)
        self._batch.write_progress(progress)
        return self._stop_sign()


async def _ended(work: asyncio.Task[None]) -> None:
    """Cancel the work and wait until all of it is over; its errors were told, or do not count."""
    work.cancel()
    await asyncio.wait([work])
