"""How many workers a queue wants. Pure; takes a clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Scaling:
    """Grows at once, to one worker for each ``per_worker`` waiting messages; shrinks when workers
    have had nothing to do for ``idle_s``."""

    least: int
    most: int
    per_worker: float = 1.0
    idle_s: float = 10.0
    _wanted_s: float = field(default=-math.inf)
    """When so many workers as there are were last wanted."""

    def wanted(self, waiting: int, busy: int, workers: int, now_s: float) -> int:
        """Workers to have now.

        Args:
            waiting: Messages that nobody has.
            busy: Workers that have one.
            workers: Workers that there are, or that are being started.
        """
        asked = busy + math.ceil(waiting / self.per_worker)
        target = max(self.least, min(self.most, asked))
        if target >= workers:
            self._wanted_s = now_s
            return target
        if now_s - self._wanted_s < self.idle_s:
            return workers
        return max(target, busy)
