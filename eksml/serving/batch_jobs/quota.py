"""How many rows may be in flight beside online requests. Pure: it is told the time."""

from __future__ import annotations

from collections import deque

from eksml.serving.step_times import Leeway

RECENT_S = 5.0
"""Online requests of this long ago still count: load comes in waves."""


class Quota:
    """Decides from what the engine has said of its idle slots, and of how long its steps take.

    While nobody has asked for ``RECENT_S``, rows fill all slots less one, in which the next online
    request begins at once. From that request on, rows are as many as online requests do not feel
    (the engine's :class:`Leeway`), begin no faster than these do not feel either, and leave the
    slots that online requests have needed of late. Where each request in a step makes it longer by
    more than that, as on CPUs, none begin.

    vLLM's priorities order those that wait; they do not make a running sequence give up its slot,
    nor steps shorter. So rows in flight that are too many are withdrawn, and computed again later
    (:meth:`excess`): all that exceed twice the leeway, but for one, by which a batch comes to its
    end even where pauses are shorter than its rows take.

    The request that ends a silence meets a full engine: it waits for the step that is under way.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()  # idle slots: rising, so the first is least
        self._most = 0
        self._idle = 0
        self._leeway = Leeway(0, 0.0)
        self._began_s = float("-inf")

    def observe(self, idle: int, leeway: Leeway, now_s: float) -> None:
        """The engine has so many idle slots now, and such leeway."""
        self._idle = max(0, idle)
        self._most = max(self._most, self._idle)
        self._leeway = leeway
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
        room = max(0, self._seen[0][1] - kept)
        return min(room, self._leeway.rows) if self.is_shared else room

    @property
    def is_shared(self) -> bool:
        """Whether online requests have used the engine of late."""
        return bool(self._seen) and self._seen[0][1] < self._most

    def may_start(self, in_flight: int, now_s: float) -> bool:
        """Whether one more row may begin."""
        paced = self.is_shared and now_s - self._began_s < self._leeway.pause_s
        return in_flight < self.room and not paced

    def started(self, now_s: float) -> None:
        """A row began."""
        self._began_s = now_s

    def excess(self, in_flight: int) -> int:
        """Rows that are in the way of online requests."""
        most = max(1, 2 * self._leeway.rows) if self.is_shared else self._most
        return max(0, in_flight - min(most, self._idle))
