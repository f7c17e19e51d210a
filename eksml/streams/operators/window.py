"""Windows over event time: built-in aggregates in columns, classes of users key by key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from eksml.errors import Problem
from eksml.streams.durations import Duration, duration_problems, micros
from eksml.streams.operators.aggregates import aggregate_problems, parse
from eksml.streams.operators.base import Context, Operator, Spec
from eksml.streams.windows import Session, Sliding
from eksml.streams.windows import Window as Windows

LATE = "late"
"""The side output of events that come too late for every window of theirs."""


@dataclass(frozen=True)
class Window(Spec):
    """An event for each key and window, when the window ends."""

    kind: ClassVar[str] = "window"
    needs_key: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    window: Windows
    aggregate: Mapping[str, Any] | type
    allowed_lateness: Duration = 0

    def problems(self) -> Iterator[Problem]:
        if not isinstance(self.window, Sliding | Session):
            remedy = "Give eksml.streams.tumbling, sliding or session."
            yield Problem("window", f"{self.window!r:.60} is no window.", remedy)
            return
        yield from self.window.problems()
        yield from duration_problems("allowed_lateness", self.allowed_lateness, positive=False)
        if self.updates and isinstance(self.window, Session):
            yield Problem(
                "allowed_lateness",
                "a late event moves the bounds of a session, so that its old result would stay.",
                "Leave it out, or take tumbling or sliding windows.",
            )
        if isinstance(self.aggregate, Mapping):
            yield from aggregate_problems("aggregate", self.aggregate)
        else:
            yield from _class_problems(self.aggregate, needs_merge=not self._is_tumbling())

    @property
    def updates(self) -> bool:
        """Whether it may give the result of a window again."""
        return not any(duration_problems("", self.allowed_lateness))

    def _is_tumbling(self) -> bool:
        return isinstance(self.window, Sliding) and self.window.size == self.window.slide

    def outputs(self) -> tuple[str, ...]:
        return (LATE,)

    def make(self, context: Context) -> Operator:
        from eksml.streams.operators.columnar import ColumnarWindows
        from eksml.streams.operators.makers import ClassMaker, ValuesMaker
        from eksml.streams.operators.objects import ObjectWindows
        from eksml.streams.operators.sessions import SessionWindows

        lateness_us = micros(self.allowed_lateness)
        if isinstance(self.aggregate, Mapping):
            aggregates = parse(self.aggregate)
            if isinstance(self.window, Sliding):
                return ColumnarWindows(self.window, aggregates, context, lateness_us)
            return SessionWindows(self.window, ValuesMaker(aggregates), context)
        maker = ClassMaker(self.aggregate, context.step)
        if isinstance(self.window, Sliding):
            return ObjectWindows(self.window, maker, context, lateness_us)
        return SessionWindows(self.window, maker, context)


def _class_problems(given: Any, *, needs_merge: bool) -> Iterator[Problem]:
    if not isinstance(given, type):
        message = f"{given!r:.60} is neither aggregates nor a class."
        yield Problem("aggregate", message, 'Write {"total": ("amount", "sum")}, or give a class.')
        return
    wanted = ["add", "result", *(["merge"] if needs_merge else [])]
    for name in wanted:
        if not callable(getattr(given, name, None)):
            yield Problem(
                "aggregate",
                f"{given.__name__} has no method {name}.",
                "It needs add(event), result() that returns a dictionary, and, for sliding and "
                "session windows, merge(other).",
            )
