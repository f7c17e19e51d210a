"""What one more request costs those that the engine computes already: learned from its steps.

A step computes one token for each request that is in it, and takes ``base + each · requests``. On
an accelerator ``base`` is large beside ``each``, since all weights are read once whatever the
number; on a CPU it is not. Both are fitted to the steps of late, of each number of requests that
there has been. Steps in which prompts were computed, too, only tell how long a prompt takes.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.05
"""By so much may rows of batches make the steps of online requests longer; and such a part of the
time may be spent on the rows' prompts."""
ENOUGH = 20
"""Steps with the same number of requests below which they say nothing."""
_MEMORY = 200
"""Steps with the same number of requests that are remembered."""
_FIT_EVERY = 100
"""Steps."""


@dataclass(frozen=True)
class Leeway:
    """What online requests do not feel."""

    rows: int
    """Further requests in their steps."""
    pause_s: float
    """Seconds between the beginnings of two such."""


@dataclass
class _Mean:
    """Of the last ``_MEMORY`` values, about; one that is far out counts as twice the mean."""

    value: float = 0.0
    count: int = 0

    def add(self, value: float) -> None:
        self.count = min(self.count + 1, _MEMORY)
        if self.count > ENOUGH:
            value = min(value, 2 * self.value)
        self.value += (value - self.value) / self.count


class StepTimes:
    """Told of each step of an engine. Not for several threads."""

    def __init__(self) -> None:
        self._sizes: dict[int, _Mean] = {}
        self._prompt_s = _Mean()
        self._line: tuple[float, float] | None = None
        self._steps = 0

    def step(self, prompts: int, gaps_s: Sequence[float]) -> None:
        """The engine made a step.

        Args:
            prompts: Prompts that were computed in it.
            gaps_s: For each request that got a further token: seconds since the one before.
        """
        if not gaps_s:
            return
        seconds = statistics.median(gaps_s)
        if not prompts:
            self._sizes.setdefault(len(gaps_s), _Mean()).add(seconds)
            self._steps += 1
            if self._steps % _FIT_EVERY == 0:
                self._line = self._fitted()
        elif self._line is not None:
            base, each = self._line
            self._prompt_s.add(max(0.0, seconds - base - each * len(gaps_s)) / prompts)

    def leeway(self, online: int) -> Leeway:
        """What may be computed beside so many online requests. Nothing, until steps with different
        numbers of requests were seen; at most twice as many together as ever were.
        """
        if self._line is None:
            return Leeway(0, 0.0)
        base, each = self._line
        beside = max(online, 1)
        most = max(0, 2 * max(self._sizes) - beside)
        rows = int(TOLERANCE * (base + each * beside) / each) if each > 0 else most
        return Leeway(max(0, min(rows, most)), self._prompt_s.value / TOLERANCE)

    def _fitted(self) -> tuple[float, float] | None:
        """Least squares; None if there are too few steps to tell."""
        known = [(n, mean) for n, mean in self._sizes.items() if mean.count >= ENOUGH]
        if len(known) < 2:
            return None
        total = sum(mean.count for _, mean in known)
        middle = sum(n * mean.count for n, mean in known) / total
        mean_s = sum(mean.value * mean.count for _, mean in known) / total
        spread = sum((n - middle) ** 2 * mean.count for n, mean in known)
        each = sum((n - middle) * mean.value * mean.count for n, mean in known) / spread
        return mean_s - each * middle, each
