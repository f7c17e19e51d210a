"""What one more request costs those that the engine computes already: learned from its steps.

A step computes one token for each request that is in it, and takes ``base + each · requests``. On
an accelerator ``base`` is large beside ``each``, since all weights are read once whatever the
number; on a CPU it is not. Both are fitted to the steps of late, of each number of requests that
there has been. Steps in which prompts were computed, too, only tell how long a prompt takes.

Measured: 6.3 ms and 0.026 ms for a model of 8 billion parameters on an H100, where twelve rows
made the steps of 1 to 16 other requests 4 to 6 % longer; 2.9 ms and 0.17 ms for one of 4 million
on two cores.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.05
"""By so much may rows of batches delay the tokens of online requests, first ones and others."""
PROMPTS = 0.01
"""Such a part of the time may be spent on the prompts of rows: one in a hundred online requests
meets one."""
ENOUGH = 20
"""Steps with the same number of requests below which they say nothing."""
_MEMORY = 200
"""Steps with the same number of requests that are remembered."""
_FIT_EVERY = 100
"""Steps."""
_FIRSTS = 500
"""First tokens of online requests that are remembered; a fifth of them is enough to tell."""


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
        self._firsts_s: deque[float] = deque(maxlen=_FIRSTS)
        self._line: tuple[float, float] | None = None
        self._slowest_s = 0.0
        self._online = 0
        self._steps = 0

    def step(self, firsts_s: Sequence[float], gaps_s: Sequence[float]) -> None:
        """The engine made a step.

        Args:
            firsts_s: For each request that got its first token: seconds since it came.
            gaps_s: For each request that got a further token: seconds since the one before.
        """
        if self._online:  # of rows there are few then
            self._firsts_s.extend(firsts_s)
        if gaps_s:
            self._learn(len(firsts_s), len(gaps_s), statistics.median(gaps_s))

    def leeway(self, online: int) -> Leeway:
        """What may be computed beside so many online requests, who are there from now on.

        Rows may make a step no more than ``TOLERANCE`` longer, so that is what tokens are delayed
        by. A new request also waits for the step under way, half of it in the mean, which may be
        no more than ``TOLERANCE`` of the time in which 99 of 100 get their first token: else there
        are none. Nor are there any until steps with different numbers of requests, and first
        tokens, were seen. They are at most twice as many as ever were in a step.
        """
        self._online = online
        if self._line is None:
            return Leeway(0, 0.0)
        base, each = self._line
        beside = max(online, 1)
        step_s = base + each * beside
        most = max(0, 2 * max(self._sizes) - beside)
        rows = int(TOLERANCE * step_s / each) if each > 0 else most
        if step_s / 2 > TOLERANCE * self._slowest_s:
            rows = 0
        return Leeway(max(0, min(rows, most)), self._prompt_s.value / PROMPTS)

    def _learn(self, prompts: int, size: int, seconds: float) -> None:
        if not prompts:
            self._sizes.setdefault(size, _Mean()).add(seconds)
            self._steps += 1
            if self._steps % _FIT_EVERY == 0:
                self._line, self._slowest_s = self._fitted(), self._slowest()
        elif self._line is not None:
            base, each = self._line
            self._prompt_s.add(max(0.0, seconds - base - each * size) / prompts)

    def _slowest(self) -> float:
        """Seconds within which 99 of 100 first tokens came; 0 if there were too few to tell."""
        known = sorted(self._firsts_s)
        return known[len(known) * 99 // 100 - 1] if len(known) >= _FIRSTS // 5 else 0.0

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
