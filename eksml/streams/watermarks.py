"""How far event time has come: per split of a source, and where several inputs meet.

A watermark ``w`` says: no event with a time before ``w`` is expected any more. Times are
microseconds since the epoch. ``None`` stands for an idle input, which holds nobody back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Mark: TypeAlias = int | None
"""A watermark, or None for «idle»."""

NEVER = -(2**63)
"""Before every event: nothing is known yet."""
FOREVER = 2**63 - 1
"""After every event: the input has ended."""


class SplitWatermarks:
    """The watermark of a source that reads several splits: the slowest that is not idle.

    A split that has given nothing for ``idle_us`` on the clock of the caller is idle. The
    watermark never goes back.
    """

    def __init__(self, delay_us: int, idle_us: int) -> None:
        self._delay_us = delay_us
        self._idle_us = idle_us
        self._newest: dict[str, int] = {}
        self._heard_us: dict[str, int] = {}
        self._mark = NEVER

    def add(self, split: str, now_us: int, newest: int = NEVER) -> None:
        """A split is read from now on; ``newest`` is its latest event time before a restart."""
        self._newest.setdefault(split, newest)
        self._heard_us.setdefault(split, now_us)

    def observe(self, split: str, newest: int, now_us: int) -> None:
        """Events of ``split`` have come, the latest of them of time ``newest``."""
        self._newest[split] = max(newest, self._newest.get(split, NEVER))
        self._heard_us[split] = now_us

    def end(self, split: str) -> None:
        """The split gives nothing any more, and holds nobody back."""
        self._newest[split] = FOREVER

    def current(self, now_us: int) -> Mark:
        """The watermark; None while every split that may give more is idle."""
        limit_us = now_us - self._idle_us
        live = {split: newest for split, newest in self._newest.items() if newest != FOREVER}
        active = [newest for split, newest in live.items() if self._heard_us[split] > limit_us]
        if active:
            slowest = min(active)
            self._mark = max(self._mark, slowest if slowest == NEVER else slowest - self._delay_us)
        elif live or not self._newest:
            return None
        else:
            self._mark = FOREVER
        return self._mark

    @property
    def newest(self) -> Mapping[str, int]:
        """The latest event time of each split, for a checkpoint."""
        return self._newest


class Meeting:
    """The watermark where several inputs meet: the least of those that are not idle.

    It never goes back, and while all inputs are idle it stays where it was.
    """

    def __init__(self, num_inputs: int) -> None:
        self._marks: list[Mark] = [NEVER] * num_inputs
        self.mark = NEVER
        self.idle = False

    def advance(self, index: int, mark: Mark) -> bool:
        """Input ``index`` has come to ``mark``. Returns whether the meeting's own state changed."""
        if self._marks[index] == mark:
            return False
        self._marks[index] = mark
        active = [each for each in self._marks if each is not None]
        if len(active) < len(self._marks):  # the idle ones may still give what the ended will not
            active = [each for each in active if each != FOREVER]
        before = self.mark, self.idle
        self.idle = not active
        if active:
            self.mark = max(self.mark, min(active))
        return (self.mark, self.idle) != before

    def restore(self, mark: int) -> None:
        """Begin at ``mark``, as a checkpoint had it."""
        self.mark = max(self.mark, mark)

    @property
    def output(self) -> Mark:
        """What goes on to those behind."""
        return None if self.idle else self.mark
