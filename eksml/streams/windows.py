"""Windows over event time, as data: which there are, and which of them an event belongs to.

Times are microseconds since the epoch; a window holds times from ``start`` up to but not
including ``end``. Tumbling and sliding windows are made of *panes*: stretches of equal length, of
which each event belongs to one, however many windows it is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

from eksml.errors import Problem
from eksml.streams.durations import Duration, duration_problems, micros


class Span(NamedTuple):
    """One window: from ``start`` up to but not including ``end``, in microseconds."""

    start: int
    end: int


@dataclass(frozen=True)
class Sliding:
    """Windows of one ``size``, a new one every ``slide``; aligned to the epoch."""

    size: Duration
    slide: Duration

    @cached_property
    def size_us(self) -> int:
        return micros(self.size)

    @cached_property
    def slide_us(self) -> int:
        return micros(self.slide)

    @cached_property
    def pane_us(self) -> int:
        """Length of a pane: the longest that every window's start and end fall on."""
        return math.gcd(self.size_us, self.slide_us)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with it."""
        wrong = [*duration_problems("size", self.size), *duration_problems("slide", self.slide)]
        yield from wrong
        if not wrong and self.slide_us > self.size_us:
            message = f"a slide of {self.slide!r} leaves gaps between windows of {self.size!r}."
            yield Problem("slide", message, "Make it as long as the size, or shorter.")

    def spans_of(self, pane: int) -> Iterator[Span]:
        """The windows that hold the pane that starts at ``pane``, earliest first."""
        last = pane - pane % self.slide_us
        first = last - (self.size_us - 1) // self.slide_us * self.slide_us
        for start in range(first, last + 1, self.slide_us):
            if start + self.size_us > pane:
                yield Span(start, start + self.size_us)

    def last_end(self, pane: int) -> int:
        """When the last window that holds this pane ends."""
        return pane - pane % self.slide_us + self.size_us

    def due(self, panes: Iterable[int], after: int, watermark: int) -> list[Span]:
        """Windows that hold one of ``panes`` and end after ``after``, at the latest at
        ``watermark``; in the order of their ends."""
        open_ = [pane for pane in panes if self.last_end(pane) > after]
        spans = {span for pane in open_ for span in self.spans_of(pane)}
        return sorted(span for span in spans if after < span.end <= watermark)


@dataclass(frozen=True)
class Session:
    """Windows of activity: one ends when its key has been silent for ``gap``."""

    gap: Duration

    @property
    def gap_us(self) -> int:
        return micros(self.gap)

    def problems(self) -> Iterator[Problem]:
        """What is wrong with it."""
        yield from duration_problems("gap", self.gap)


Window: TypeAlias = Sliding | Session


def tumbling(size: Duration) -> Sliding:
    """Windows of one size, one after another.

    >>> list(tumbling("10s").spans_of(20_000_000))
    [Span(start=20000000, end=30000000)]
    """
    return Sliding(size, size)


def sliding(size: Duration, slide: Duration) -> Sliding:
    """Windows of ``size``, a new one every ``slide``: each event is in size / slide of them."""
    return Sliding(size, slide)


def session(gap: Duration) -> Session:
    """Windows of activity of a key, apart by at least ``gap``."""
    return Session(gap)
