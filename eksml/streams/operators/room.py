"""How much of a step's state may lie in memory, judged by the weight of samples."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_SAMPLE = 16
_SAMPLES = 256
"""Weights that the mean is taken of: the latest."""
_EVERY = 1024
"""Events between two samples."""
_ENTRY_BYTES = 300
"""What the dictionaries of a state take for each key, the tuple of its values included; about."""


class Held(NamedTuple):
    """Bytes that a step's state takes, about."""

    memory: int
    disk: int = 0


class Room:
    """Says how many keys may stay. ``weigh`` gives the bytes of one key and its value."""

    def __init__(self, limit: int | None, weigh: Callable[[Any], int]) -> None:
        self._limit = limit
        self._weigh = weigh
        self._weights: deque[int] = deque(maxlen=_SAMPLES)
        self.mean = _ENTRY_BYTES
        """Bytes of a key."""
        self._unseen = _EVERY

    def too_many(self, count: int, events: Sequence[Any]) -> int:
        """How many of ``count`` keys have to go, after events with these keys: none, or so many
        that half of the room is free."""
        if self._limit is None:
            return 0
        self._unseen += len(events)
        if self._unseen >= _EVERY:
            self._unseen = 0
            self._look(events)
        most = self._limit // self.mean
        return 0 if count <= most else count - most // 2

    def _look(self, keys: Sequence[Any]) -> None:
        """Weigh a few of these keys, evenly picked; there are some."""
        picked = keys[:: max(1, len(keys) // _SAMPLE)]
        self._weights.extend(_ENTRY_BYTES + self._weigh(key) for key in picked)
        self.mean = sum(self._weights) // len(self._weights)


def weight(value: Any) -> int:
    """Bytes of memory that a value takes with all it holds; what is shared counts each time."""
    size = sys.getsizeof(value)
    if isinstance(value, dict):
        return size + sum(map(weight, value)) + sum(map(weight, value.values()))
    if isinstance(value, list | tuple | set):
        return size + sum(map(weight, value))
    attributes = getattr(value, "__dict__", None)
    return size if attributes is None else size + weight(attributes)
