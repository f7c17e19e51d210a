"""Counts the seconds in which anything is under way."""

from __future__ import annotations

import threading
import time
from typing import Any


class BusyClock:
    """A context manager; runs while at least one thread is inside, and counts no second twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._counted = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._since = time.perf_counter()
            self._inside += 1

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._counted += time.perf_counter() - self._since

    @property
    def busy_s(self) -> float:
        """Seconds so far."""
        with self._lock:
            running = time.perf_counter() - self._since if self._inside else 0.0
            return self._counted + running
