"""What ends a request before its answer does: its client leaves, or its deadline passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from types import TracebackType
from typing import Self

from eksml.serving.gate.asgi import Message, Receive

GRACE_S = 0.25
"""Seconds that the application below has to end by itself, once it is told that the client left.

It is told first and cancelled only then, for vLLM computes a whole answer in a task of its own,
which outlives the cancelled caller, but ends at once on ``http.disconnect``."""


class Reason(Enum):
    """Why."""

    GONE = "gone"
    """The client left."""
    LATE = "late"
    """The deadline passed."""


class Ending:
    """Ends what runs in its ``async with`` when the client leaves or the deadline passes.

    The block is then left without an error, and ``reason`` says why. A cancellation that comes from
    elsewhere passes through.

    Args:
        deadline_s: Seconds from now.
    """

    def __init__(self, deadline_s: float) -> None:
        self.reason: Reason | None = None
        self.gentle = False
        """Whether something runs that hears ``receive`` and gets :data:`GRACE_S`."""
        self._deadline_s = deadline_s
        self._told = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._cancelled = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelling = task.cancelling()
        self._loop = asyncio.get_running_loop()
        self._later(self._deadline_s, lambda: self._end(Reason.LATE))
        return self

    def watch(self, receive: Receive) -> None:
        """From now on listen for the client to leave. The body must have been read."""
        self._watcher = self._loop.create_task(self._watch(receive))

    async def receive(self) -> Message:
        """For the application below, after the body: returns when it should end."""
        await self._told.wait()
        return {"type": "http.disconnect"}

    def rest(self) -> None:
        """The answer is sent whole: let what is left to do be done in peace."""
        for timer in self._timers:
            timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self.rest()
        if not self._cancelled:
            return False
        own = self._task.uncancel() <= self._cancelling
        return own and kind is asyncio.CancelledError

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(Reason.GONE)

    def _end(self, reason: Reason) -> None:
        if self.reason is not None:
            return
        self.reason = reason
        self._told.set()
        if self.gentle:
            self._later(GRACE_S, self._cancel)
        else:
            self._cancel()

    def _cancel(self) -> None:
        self._cancelled = True
        self._task.cancel()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, call))
