"""What a run cost and how much of it was kept: a pure function of the run's events.

Events are JSON objects in ``<run>/events``, each with ``kind``, ``attempt`` and ``at_s`` (seconds
since the epoch). An *incarnation* is one start of the workers within an attempt:

==================== ================================== ========================================
kind                 further fields                     meaning
==================== ================================== ========================================
attempt_started                                         a driver took the run over
incarnation_started  restored_step, nodes, workers      workers started; work goes on from there
loop_started                                            the first step begins
committed            step                               at_s: when that step had been reached
ended                step                               the loop returned after that step
attempt_ended                                           the driver let go
==================== ================================== ========================================
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

Kind = Literal[
    "attempt_started",
    "incarnation_started",
    "loop_started",
    "committed",
    "ended",
    "attempt_ended",
]


def event(kind: Kind, attempt: int, *, at_s: float | None = None, **fields: Any) -> dict[str, Any]:
    """An event, at the present time unless told otherwise."""
    return {
        "kind": kind,
        "attempt": attempt,
        "at_s": time.time() if at_s is None else at_s,
        **fields,
    }


@dataclass(frozen=True)
class Receipt:
    """What a run cost. ``print`` it for one line."""

    wall_s: float
    """From the first event to the last (or to now, while it runs)."""
    kept_s: float
    """Of that, time in the loop whose steps are part of the result or of its last checkpoint."""
    kept_share: float
    """``kept_s / wall_s``; 0 for a run that has done nothing."""
    node_s: float
    """Node-seconds: the nodes of each incarnation times how long it held them."""
    attempts: int
    restarts: int
    """Starts of the workers after the first."""

    def __str__(self) -> str:
        return (
            f"{self.wall_s:.1f} s wall, {self.kept_share:.1%} of it kept progress, "
            f"{self.node_s / 3600:.3f} node-hours, {self.restarts} restarts, "
            f"{self.attempts} attempts"
        )


@dataclass
class _Incarnation:
    attempt: int
    start_s: float
    restored_step: int
    nodes: int
    marks: list[tuple[int, float]] = field(default_factory=list)
    """(step, when it had been reached), from the start of the loop on."""
    last_s: float = 0.0
    """The last thing heard of it."""


def receipt(events: Iterable[Mapping[str, Any]], *, now_s: float | None = None) -> Receipt:
    """Add a run's events up.

    Args:
        events: In any order.
        now_s: The present, for a run that is still going on; None for one that has ended.
    """
    ordered = sorted(events, key=lambda event: event["at_s"])
    if not ordered:
        return Receipt(0.0, 0.0, 0.0, 0.0, 0, 0)
    incarnations = _incarnations(ordered)
    end_s = max(ordered[-1]["at_s"], now_s or 0.0)
    wall_s = end_s - ordered[0]["at_s"]
    kept_s = _kept_s(incarnations)
    return Receipt(
        wall_s=wall_s,
        kept_s=kept_s,
        kept_share=min(1.0, kept_s / wall_s) if wall_s > 0 else 0.0,
        node_s=_node_s(incarnations, ordered, now_s),
        attempts=max(event["attempt"] for event in ordered),
        restarts=max(0, len(incarnations) - 1),
    )


def _incarnations(ordered: Iterable[Mapping[str, Any]]) -> list[_Incarnation]:
    found: list[_Incarnation] = []
    for item in ordered:
        kind, at_s = item["kind"], item["at_s"]
        if kind == "incarnation_started":
            step = item.get("restored_step") or 0
            found.append(_Incarnation(item["attempt"], at_s, step, item.get("nodes") or 1))
        if not found or kind.startswith("attempt_"):
            continue
        current = found[-1]
        current.last_s = at_s
        if kind == "loop_started":
            current.marks = [(current.restored_step, at_s)]
        elif kind in ("committed", "ended") and current.marks:
            current.marks.append((max(item["step"], current.marks[-1][0]), at_s))
    return found


def _kept_s(incarnations: list[_Incarnation]) -> float:
    """Time up to the step that the next incarnation went on from; backwards, since an incarnation
    that fell back to an older checkpoint undoes what came before it too."""
    kept_s = 0.0
    limit: int | None = None
    for incarnation in reversed(incarnations):
        kept_s += _time_to(limit, incarnation.marks)
        step = incarnation.restored_step
        limit = step if limit is None else min(limit, step)
    return kept_s


def _time_to(limit: int | None, marks: list[tuple[int, float]]) -> float:
    """Seconds from the first mark until ``limit`` was reached, straight between two marks."""
    if not marks:
        return 0.0
    (first_step, first_s), (last_step, last_s) = marks[0], marks[-1]
    if limit is None or limit >= last_step:
        return last_s - first_s
    if limit <= first_step:
        return 0.0
    for (step, at_s), (next_step, next_s) in pairwise(marks):
        if next_step >= limit:
            share = (limit - step) / (next_step - step)
            return at_s - first_s + share * (next_s - at_s)
    raise AssertionError("the marks end before their own last step")


def _node_s(
    incarnations: list[_Incarnation], ordered: list[Mapping[str, Any]], now_s: float | None
) -> float:
    """An incarnation holds its nodes until the next one of its attempt starts or the attempt
    ends; if its driver was killed, until the last thing that was heard of it."""
    ends = {item["attempt"]: item["at_s"] for item in ordered if item["kind"] == "attempt_ended"}
    total = 0.0
    for index, incarnation in enumerate(incarnations):
        following = incarnations[index + 1] if index + 1 < len(incarnations) else None
        if following is not None and following.attempt == incarnation.attempt:
            end_s = following.start_s
        elif following is None and now_s is not None:
            end_s = max(now_s, incarnation.last_s)
        else:
            end_s = max(ends.get(incarnation.attempt, 0.0), incarnation.last_s)
        total += incarnation.nodes * (end_s - incarnation.start_s)
    return total
