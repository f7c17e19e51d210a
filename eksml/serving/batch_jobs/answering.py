"""The rows of one batch through the engine, block by block."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field

from eksml.serving.batch_jobs.answers import Answer
from eksml.serving.batch_jobs.care import Care
from eksml.serving.batch_jobs.engine import Engine
from eksml.serving.batch_jobs.lines import Block, Row
from eksml.serving.batch_jobs.plan import RowReader
from eksml.serving.batch_jobs.records import Batch
from eksml.serving.batch_jobs.results import NOTHING, Tally, tally_of, write_block
from eksml.serving.batch_jobs.rows import answer
from eksml.serving.batch_jobs.slots import Slot, Slots
from eksml.storage import URI

_MOST_OPEN = 1024
"""Rows of a batch that are in memory, those included that wait to be tried again."""
_KILLER = "The engine died each time that it computed this request, so it is not tried again."


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
class OpenBlock:
    """A block whose rows are being answered."""

    index: int
    rows: list[Row]
    answers: dict[str, Answer] = field(default_factory=dict)

    def in_order(self) -> list[Answer]:
        """The answers so far, in the order of the input."""
        found = (self.answers.get(row.custom_id) for row in self.rows)
        return [answer for answer in found if answer is not None]


class Answering:
    """Answers rows in order, as slots allow; storage is used in threads.

    A block is committed once all its rows have answers, so that a worker that dies loses only what
    was in flight and its block-mates.
    """

    def __init__(
        self, batch: Batch, endpoint: str, means: Means, care: Care, done: Iterable[Tally]
    ) -> None:
        self._batch = batch
        self._endpoint = endpoint
        self._means = means
        self._care = care
        self._open: dict[int, OpenBlock] = {}
        self._committed = functools.reduce(Tally.plus, done, NOTHING)
        self._places = asyncio.Semaphore(_MOST_OPEN)

    def tally(self) -> Tally:
        """All answers so far, of blocks that were ``done`` before too."""
        opened = (tally_of(block.in_order()) for block in self._open.values())
        return functools.reduce(Tally.plus, opened, self._committed)

    async def answer(self, blocks: list[Block], reader: RowReader) -> None:
        """Answer all rows of the blocks and commit them.

        Raises:
            StorageError: of the storage; what is committed stays so.
        """
        try:
            async with asyncio.TaskGroup() as group:
                async for block in _read_ahead(blocks, reader):
                    self._open[block.index] = block
                    await asyncio.to_thread(self._care.open, block.index)
                    for row in self._care.in_order(block.rows):
                        await self._begin(group, block, row)
        except ExceptionGroup as errors:
            raise _first(errors) from errors

    async def commit_unfinished(self) -> None:
        """Commit what is answered of open blocks: for a batch that ends early, and then only."""
        for block in list(self._open.values()):
            if block.answers:
                await self._commit(block)

    async def _begin(self, group: asyncio.TaskGroup, block: OpenBlock, row: Row) -> None:
        if row.custom_id in self._care.refused:
            return await self._take(block, Answer.without_reply(row, "engine_died", _KILLER))
        alone = self._care.runs_alone(block.index)
        if alone:
            await asyncio.to_thread(self._care.begin_alone, row.custom_id)
        await self._places.acquire()
        slot = await self._means.slots.take()
        task = group.create_task(self._row(block, row, slot))
        task.add_done_callback(functools.partial(self._leave, slot))
        if alone:
            await asyncio.wait([task])
        return None

    async def _row(self, block: OpenBlock, row: Row, slot: Slot) -> None:
        await self._take(block, await answer(row, self._endpoint, self._means.engine, slot))

    async def _take(self, block: OpenBlock, answer: Answer) -> None:
        block.answers[answer.custom_id] = answer
        if len(block.answers) == len(block.rows):
            await self._commit(block)

    def _leave(self, slot: Slot, task: asyncio.Task[None]) -> None:
        # Here and not in the task, which may be cancelled before it has begun
        slot.give_back()
        self._places.release()

    async def _commit(self, block: OpenBlock) -> None:
        tally = await asyncio.to_thread(write_block, self._batch, block.index, block.in_order())
        del self._open[block.index]
        self._committed = self._committed.plus(tally)
        first_open = min(self._open, default=block.index + 1)
        await asyncio.to_thread(self._care.committed, first_open)


async def _read_ahead(blocks: list[Block], reader: RowReader) -> AsyncIterator[OpenBlock]:
    """The blocks with their rows; the next one is read while one is answered."""

    def read(block: Block) -> asyncio.Task[list[Row]]:
        return asyncio.create_task(asyncio.to_thread(reader.read, block))

    coming = read(blocks[0]) if blocks else None
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        assert coming is not None
        rows = await coming
        coming = read(after) if after else None
        yield OpenBlock(block.index, rows)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
