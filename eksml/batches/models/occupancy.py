"""How full an engine was kept."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


class Occupancy:
    """Counts requests in flight over time. Any thread.

    Args:
        slots: Requests that are computed at once, at most.
        clock: Seconds, only going forward.
    """

    def __init__(self, slots: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._slots = slots
        self._clock = clock
        self._lock = threading.Lock()
        self._flying = 0
        self._since = clock()
        self._busy_s = 0.0
        self._taken_s = 0.0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """While a request is in flight."""
        self._step(1)
        try:
            yield
        finally:
            self._step(-1)

    def busy(self) -> dict[str, float]:
        """``busy_s``, seconds with a request in flight, and ``occupancy``, the mean share of the
        slots that these requests could take meanwhile: what waits beyond the slots is not counted.
        """
        self._step(0)
        with self._lock:
            share = self._taken_s / (self._busy_s * self._slots) if self._busy_s else 0.0
            return {"busy_s": self._busy_s, "occupancy": share}

    def _step(self, change: int) -> None:
        with self._lock:
            now = self._clock()
            if self._flying:
                self._busy_s += now - self._since
                self._taken_s += (now - self._since) * min(self._flying, self._slots)
            self._since = now
            self._flying += change
