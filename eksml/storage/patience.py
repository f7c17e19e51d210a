"""A set of files is worth more than one call's tries, but not unbounded waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from eksml.errors import StorageUnavailable

T = TypeVar("T")

ROUNDS = 3
"""With 30 % of requests failing, one call in 400 is out of its five tries; one in 10⁸ of these."""
PATIENCE_S = 20.0
"""No new round begins after this, so that storage that is down is told in bounded time."""


def patiently(work: Callable[[], T]) -> T:
    """What ``work()`` returns, begun again if the storage was unavailable. It must bear that."""
    began = time.monotonic()
    for _ in range(1, ROUNDS):
        try:
            return work()
        except StorageUnavailable:
            if time.monotonic() - began > PATIENCE_S:
                raise
    return work()
