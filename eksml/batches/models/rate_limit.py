"""A token bucket: no more than so many a minute, and no burst above a second's worth."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_S = 1.0


class TokenBucket:
    """Says how long to wait. Pure but for its clock; for one thread.

    What is taken is taken at once, also before its time has come: whoever takes waits as long as
    told, and those who take later wait for it. So in any span of T seconds, no more is begun than
    ``per_minute / 60 · T`` and a burst: ``per_minute / 60 · BURST_S``, or the amount of the first
    that begins, whichever is more.

    Args:
        per_minute: What may be taken; None for no limit.
        clock: Seconds that only grow.
    """

    def __init__(
        self, per_minute: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._per_s = None if per_minute is None else per_minute / 60
        self._room = 0.0 if self._per_s is None else max(1.0, self._per_s * BURST_S)
        self._level = self._room
        self._at = clock()
        self._held_until = self._at

    def take(self, amount: float = 1.0) -> float:
        """Take ``amount``, more than the burst if need be; seconds to wait before using it."""
        if self._per_s is None:
            return max(0.0, self._held_until - self._clock())
        self._fill()
        self._level -= amount
        return max(0.0, -self._level / self._per_s)

    def correct(self, amount: float) -> None:
        """So much more was used than was taken; less, if negative."""
        if self._per_s is not None:
            self._fill()
            self._level = min(self._room, self._level - amount)

    def hold(self, seconds: float) -> None:
        """Nothing that is taken from now on may be used before ``seconds`` have passed."""
        self._held_until = max(self._held_until, self._clock() + seconds)
        if self._per_s is not None:
            self._fill()
            self._level = min(self._level, -seconds * self._per_s)

    def _fill(self) -> None:
        assert self._per_s is not None
        now = self._clock()
        self._level = min(self._room, self._level + (now - self._at) * self._per_s)
        self._at = now
