"""Lengths of time as users write them: ``"5m"``, ``"10s"``, ``"250ms"``, or seconds as a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

from eksml.errors import Problem

Duration: TypeAlias = str | float
"""``"5m"``, ``"10s"``, ``"250ms"``, ``"1h"``, ``"1d"``; a number means seconds."""

_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_UNITS_US["d"] = 24 * _UNITS_US["h"]
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|d)\s*")


def micros(duration: Duration) -> int:
    """The length in microseconds.

    >>> micros("1.5s")
    1500000

    Raises:
        ValueError: It is no length of time, or negative.
    """
    if isinstance(duration, str):
        match = _TEXT.fullmatch(duration)
        if match is None:
            raise ValueError(duration)
        return round(float(match[1]) * _UNITS_US[match[2]])
    if isinstance(duration, bool) or not isinstance(duration, int | float) or not duration >= 0:
        raise ValueError(duration)
    return round(duration * 1_000_000)


def seconds(duration: Duration) -> float:
    """The length in seconds. Raises ValueError as :func:`micros` does."""
    return micros(duration) / 1_000_000


def duration_problems(path: str, duration: Duration, *, positive: bool = True) -> Iterator[Problem]:
    """What is wrong with a length that a user gave."""
    try:
        length = micros(duration)
    except (ValueError, OverflowError):
        remedy = 'Write "250ms", "10s", "5m", "1h" or a number of seconds.'
        yield Problem(path, f"{duration!r:.40} is no length of time.", remedy)
        return
    if positive and length <= 0:
        yield Problem(path, f"{duration!r} is not longer than 0.")
