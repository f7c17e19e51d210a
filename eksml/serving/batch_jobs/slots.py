"""The rows in flight: they begin as the quota allows, and give way to online requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from eksml.serving.batch_jobs.quota import Quota
from eksml.serving.step_times import Leeway

T = TypeVar("T")

TICK_S = 0.01
"""How often the engine is asked for its state: a row gives way within this."""


class Slots:
    """Shared by all batches of a worker; those that wait are served in turn. One event loop."""

    def __init__(self, idle_slots: Callable[[], int], leeway: Callable[[], Leeway]) -> None:
        self.in_flight = 0
        self.withdrawn = 0
        """How often a row gave way."""
        self._idle_slots = idle_slots
        self._leeway = leeway
        self._quota = Quota()
        self._turn = asyncio.Lock()
        self._running: dict[asyncio.Future[Any], None] = {}  # in the order of their beginnings
        self._recalled: set[asyncio.Future[Any]] = set()

    async def watch(self) -> None:
        """Look after the engine until cancelled; without this nothing begins."""
        while True:
            self._quota.observe(self._idle_slots(), self._leeway(), time.monotonic())
            self._withdraw(self._quota.excess(self.in_flight))
            await asyncio.sleep(TICK_S)

    async def take(self) -> Slot:
        """Wait for a slot. Whoever takes it sees to it that it is given back."""
        async with self._turn:
            while not self._quota.may_start(self.in_flight, time.monotonic()):
                await asyncio.sleep(TICK_S)
            self.in_flight += 1
            self._quota.started(time.monotonic())
        return Slot(self)

    async def compute(self, work: Awaitable[T]) -> T:
        """The outcome of the work.

        Raises:
            Withdrawn: the work was cancelled, since an online request needs the slot.
        """
        task = asyncio.ensure_future(work)
        self._running[task] = None
        try:
            return await task
        except asyncio.CancelledError:
            if task not in self._recalled or _is_being_cancelled():
                raise
            self.withdrawn += 1
            raise Withdrawn from None
        finally:
            del self._running[task]
            self._recalled.discard(task)

    def _withdraw(self, count: int) -> None:
        """Cancel the youngest rows, which lose least."""
        count -= len(self._recalled)
        for task in reversed(list(self._running)):
            if count <= 0:
                return
            if task not in self._recalled:
                self._recalled.add(task)
                task.cancel()
                count -= 1


class Withdrawn(Exception):
    """A row gives way, and begins again later."""


class Slot:
    """The right of one row to be in flight."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._held = True

    def give_back(self) -> None:
        """Let another row have it. Giving back again does nothing."""
        if self._held:
            self._held = False
            self._slots.in_flight -= 1

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """The outcome of the work, after which the slot is given back.

        If it was given back before, another one is waited for. Withdrawn work is done again, in
        another slot: it must bear that.
        """
        while True:
            if not self._held:
                await self._slots.take()
                self._held = True
            try:
                return await self._slots.compute(work())
            except Withdrawn:
                continue
            finally:
                self.give_back()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
