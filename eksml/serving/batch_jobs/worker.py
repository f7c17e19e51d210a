"""Works off the open batches of a model, in the process that holds its engine."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Iterable

from eksml.errors import Damaged, EksmlError, Fenced, RunNameInUse
from eksml.runs import lease
from eksml.serving.batch_jobs.answering import Means
from eksml.serving.batch_jobs.attempt import Attempt
from eksml.serving.batch_jobs.engine import Engine
from eksml.serving.batch_jobs.marks import Marks
from eksml.serving.batch_jobs.places import batches_of
from eksml.serving.batch_jobs.records import Batch
from eksml.serving.batch_jobs.slots import Slots
from eksml.storage import URI

POLL_S = 2.0
"""Seconds between looks for new batches."""
AT_ONCE = 4
"""Batches that one worker has begun, so that the tail of one leaves no slot idle. A tenant's first
batch is begun beyond this: nobody waits for another's long batch."""
_ORPHAN_S = 3600.0
"""A mark whose batch does not appear within this is left over from a client's call that died."""

_log = logging.getLogger(__name__)


class Worker:
    """Takes open batches whose model is served here, the oldest of each tenant first.

    Each batch has one owner, by a lease: when that dies, another worker goes on with what is not
    committed yet, at the latest ``lease.STALE_S`` later. A worker that was thought dead and comes
    back is fenced, and what it commits until then is committed once all the same.
    """

    def __init__(
        self, root: URI, engine: Engine, served: Collection[str], *, most_line_bytes: int
    ) -> None:
        self._root = root
        self._served = frozenset(served)
        self._slots = Slots(engine.idle_slots, engine.leeway)
        self._means = Means(root, engine, self._slots, self._served, most_line_bytes)
        self._marks = Marks(root)
        self._work: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled; then let go of every batch, so that others may go on at once."""
        watch = asyncio.create_task(self._slots.watch())
        try:
            while True:
                await self._look()
                await asyncio.sleep(POLL_S)
        finally:
            for task in (watch, *self._work.values()):
                task.cancel()
            await asyncio.wait([watch, *self._work.values()])

    async def _look(self) -> None:
        """Begin work on batches that nobody works on."""
        self._work = {name: task for name, task in self._work.items() if not task.done()}
        try:
            await asyncio.to_thread(self._marks.look)
            await self._begin_some()
        except EksmlError as error:
            _log.warning("open batches cannot be looked for, so later again: %s", error)

    async def _begin_some(self) -> None:
        """Begin what may be begun; what another worker has takes nobody's turn."""
        marks = self._marks.open
        working = [marks[name].tenant for name in self._work if name in marks]
        waiting = self._waiting()
        while names := choose(waiting, working):
            tenant = waiting.pop(names[0])
            if await self._begin(names[0]):
                working.append(tenant)

    def _waiting(self) -> dict[str, str]:
        """Batches that are for this worker and have none here, with their tenants."""
        return {
            name: mark.tenant
            for name, mark in self._marks.open.items()
            if name not in self._work and mark.model in self._served
        }

    async def _begin(self, name: str) -> bool:
        batch = Batch(batches_of(self._root, self._marks.open[name].tenant) / name)
        try:
            attempt = await asyncio.to_thread(self._claim, batch)
        except Damaged as error:
            _log.warning("%s cannot be worked on: %s", name, error)
            return False
        if attempt is not None:
            self._work[name] = asyncio.create_task(self._attempt(batch, *attempt))
        return attempt is not None

    def _claim(self, batch: Batch) -> tuple[Attempt, lease.Owner] | None:
        asked = batch.asked()
        if asked is None:  # its mark is written first
            if self._marks.ages_s[batch.id] > _ORPHAN_S:
                self._marks.uri(batch.id).delete()
            return None
        if batch.end() is not None:
            self._clear(batch)
            return None
        try:
            owner = lease.claim(batch.folder)
        except RunNameInUse:
            return None
        return Attempt(batch, asked, owner, self._means), owner

    async def _attempt(self, batch: Batch, attempt: Attempt, owner: lease.Owner) -> None:
        try:
            end = await attempt.run()
            _log.info("%s %s: %s", batch.id, end.status, end.counts)
            await asyncio.to_thread(self._clear, batch)
        except Fenced as error:
            _log.warning("%s goes on elsewhere: %s", batch.id, error)
        except EksmlError as error:
            _log.warning("%s stopped and will be begun again: %s", batch.id, error)
            await asyncio.to_thread(lease.release, batch.folder)
        except asyncio.CancelledError:
            await asyncio.to_thread(lease.release, batch.folder)
            raise
        except Exception:  # a fault of ours: the task has no caller, and the other batches go on
            _log.exception("%s stopped and will be begun again", batch.id)

    def _clear(self, batch: Batch) -> None:
        """Leave of an ended batch what its view needs; killed on the way, it is done again."""
        batch.clear()
        self._marks.uri(batch.id).delete()


def choose(waiting: dict[str, str], working: Iterable[str]) -> list[str]:
    """Batches to begin: the oldest of each tenant that has none, then others up to ``AT_ONCE``.

    Args:
        waiting: Batch → tenant. Names sort by age.
        working: The tenant of each batch that has begun.

    >>> choose({"b1": "ann", "b2": "ann", "b3": "bob"}, ["cat", "cat"])
    ['b1', 'b3']
    """
    begun = Counter(working)
    chosen = []
    while left := [name for name in waiting if name not in chosen]:
        name = min(left, key=lambda name: (begun[waiting[name]], name))
        if begun[waiting[name]] and begun.total() >= AT_ONCE:
            break
        begun[waiting[name]] += 1
        chosen.append(name)
    return chosen
