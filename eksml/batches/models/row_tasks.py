"""Ask something outside for each row, many at a time, from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from eksml.batches.models.clock import BusyClock

T = TypeVar("T")
R = TypeVar("R")


class RowFailed(Exception):
    """This row has no answer; its text says why."""


class RowTasks:
    """One event loop; whoever made it closes it. Several threads may call ``run``.

    Args:
        max_in_flight: Rows that are asked for at once, over all calls.
    """

    def __init__(self, max_in_flight: int) -> None:
        self._max = max_in_flight
        self._slots = asyncio.Semaphore(max_in_flight)
        self._clock = BusyClock()
        self._taken_s = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="eksml-rows", daemon=True
        )
        self._thread.start()

    def run(self, ask: Callable[[T], Awaitable[R]], rows: Sequence[T]) -> list[R | RowFailed]:
        """Ask for each row; what came of it, in the rows' order.

        Raises:
            Exception: What ``ask`` raised, but for ``RowFailed``; the other rows are given up.
        """
        with self._clock:
            return self.wait(self._all(ask, rows))

    def wait(self, work: Coroutine[Any, Any, R]) -> R:
        """Run one coroutine on the loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _all(
        self, ask: Callable[[T], Awaitable[R]], rows: Sequence[T]
    ) -> list[R | RowFailed]:
        tasks = [asyncio.ensure_future(self._one(ask, row)) for row in rows]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _one(self, ask: Callable[[T], Awaitable[R]], row: T) -> R | RowFailed:
        async with self._slots:
            began = time.perf_counter()
            try:
                return await ask(row)
            except RowFailed as failed:
                return failed
            finally:
                self._taken_s += time.perf_counter() - began

    def busy(self) -> dict[str, float]:
        """``busy_s``, and ``occupancy``: the mean share of the slots that were taken meanwhile."""
        busy_s = self._clock.busy_s
        return {"busy_s": busy_s, "occupancy": self._taken_s / self._max / busy_s if busy_s else 0}

    def close(self) -> None:
        """End the thread. Twice is fine."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
