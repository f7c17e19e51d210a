"""How many rows may be in flight beside online requests. Pure: it is told the time."""

from __future__ import annotations

from collections import deque

RECENT_S = 5.0
"""Online requests of this long ago still keep their slots: load comes in waves."""
PACE_S = 0.02
"""While there are online requests, one row begins each time: a prefill of many rows at once would
stand between an online request and its first token."""


class Quota:
    """Decides from what the engine has said of its idle slots.

    Rows fill the slots that online requests have not needed of late, less one, in which the next
    online request begins at once. vLLM's priorities order those that wait; they do not make a
    running sequence give up its slot, so what is too much must be withdrawn (:meth:`excess`).
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # idle slots: rising, so the first is least
        self._most = 0
        self._idle = 0
        self._began_s = float("-inf")

    def observe(self, idle: int, now_s: float) -> None:
        """The engine has so many idle slots now."""
        self._idle = max(0, idle)
        self._most = max(self._most, self._idle)
        while self._seen and self._seen[-1][1] >= self._idle:
            self._seen.pop()
        self._seen.append((now_s, self._idle))
        while self._seen[0][0] < now_s - RECENT_S:
            self._seen.popleft()

    @property
    def room(self) -> int:
        """Rows that may be in flight."""
        if not self._idle:
            return 0
        kept = 1 if self._most > 1 else 0
        return max(0, self._seen[0][1] - kept)

    @property
    def is_shared(self) -> bool:
        """Whether online requests have used the engine of late."""
        return bool(self._seen) and self._seen[0][1] < self._most

    def may_start(self, in_flight: int, now_s: float) -> bool:
        """Whether one more row may begin."""
        paced = self.is_shared and now_s - self._began_s < PACE_S
        return in_flight < self.room and not paced

    def started(self, now_s: float) -> None:
        """A row began."""
        self._began_s = now_s

    def excess(self, in_flight: int) -> int:
        """Rows that hold slots which online requests need now."""
        return max(0, in_flight - self._idle)
