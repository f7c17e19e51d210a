"""What the fake API server does wrong on request."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Fault = int | Literal["reset", "lost"]
"""A status to answer; ``reset``: cut before anything is done; ``lost``: done, and then cut."""


@dataclass
class _Planned:
    fault: Fault
    method: str
    path: str
    times: int
    retry_after_s: int | None


class Faults:
    """Faults that are planned, and what was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """Method and path, query included, of every request."""
        self._planned: list[_Planned] = []
        self._storm: Iterator[Fault | None] = itertools.repeat(None)
        self._lock = threading.Lock()

    def plan(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        times: int = 1,
        retry_after_s: int | None = None,
    ) -> None:
        """Do this to the next ``times`` requests with this method and this text in their path."""
        with self._lock:
            self._planned.append(_Planned(fault, method, path, times, retry_after_s))

    def storm(self, *faults: Fault, every: int = 3) -> None:
        """From now on, do these in turn, to every so manieth request; without any, be calm."""
        turns = ([*[None] * (every - 1), fault] for fault in itertools.cycle(faults))
        with self._lock:
            self._storm = itertools.chain.from_iterable(turns) if faults else itertools.repeat(None)

    def draw(self, method: str, path: str) -> tuple[Fault | None, int | None]:
        """What shall happen to this request."""
        with self._lock:
            self.requests.append((method, path))
            for planned in self._planned:
                if planned.method in ("", method) and planned.path in path:
                    planned.times -= 1
                    if planned.times == 0:
                        self._planned.remove(planned)
                    return planned.fault, planned.retry_after_s
            return next(self._storm), None
