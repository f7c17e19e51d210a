"""Side outputs: events that leave a step by another door than the main one."""

from __future__ import annotations

from typing import Any, NamedTuple

from eksml.errors import CallError
from eksml.streams.batch import Batch, Event
from eksml.streams.operators.base import MAIN, Context
from eksml.streams.operators.functions import event_of


class Side(NamedTuple):
    """What a function of ``flat_map`` or ``process`` yields for a side output.

    >>> Side("alarms", {"sensor": 7})
    Side(name='alarms', event={'sensor': 7})
    """

    name: str
    event: Event


class Outputs:
    """Events that a step has for its outputs, until they are emitted together."""

    def __init__(self) -> None:
        self._events: dict[str, tuple[list[Event], list[int]]] = {}

    def add(self, value: Any, time: int) -> None:
        """An event, or :class:`Side`.

        Raises:
            CallError: It is neither.
        """
        port = MAIN
        if isinstance(value, Side):
            port, value = value
            if not port or not isinstance(port, str):
                raise CallError(f"{port!r} is not a name for a side output.")
        events, times = self._events.setdefault(port, ([], []))
        events.append(event_of(value))
        times.append(time)

    async def emit(self, context: Context) -> None:
        """Hand everything on, and begin anew."""
        import numpy as np

        ready, self._events = self._events, {}
        for port, (events, times) in ready.items():
            await context.emit(Batch(np.array(times, np.int64), rows=events), port)
