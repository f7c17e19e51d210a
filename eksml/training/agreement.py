"""All ranks decide the same at the same step: save, stop, fail.

A rank that alone stopped for a spot notice would leave the others hanging in their next collective.
So ranks compare notes at *boundaries*, steps that all know in advance: about every quarter of a
second one tiny all-reduce on the CPU, not one at every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

BOUNDARY_S = 0.25
"""Seconds between boundaries: how much later than it could a run may react."""

STOPS = ("", "cancel", "deadline", "budget", "preempted")
"""Why a run stops; the index is what travels, and the largest wins."""


@dataclass(frozen=True)
class Notes:
    """What a rank wants; after agreeing, what any rank wants."""

    stop: int = 0
    """Index into STOPS."""
    save: int = 0
    """A checkpoint is due."""
    busy: int = 0
    """A checkpoint is in flight, so that a due one has to wait."""
    failed: int = 0
    """A checkpoint failed in the background."""
    ask: int = 0
    """Ask Ray Train for a spot notice: a collective of its own, so it is agreed upon too."""
    interval: int = 1
    """Steps until the next boundary; the first rank's word."""


Agree = Callable[[Notes], Notes]


def agreement(world: int) -> Agree:
    """How this process's ranks agree. Each rank must call it equally often, in the same order."""
    if world == 1:
        return lambda notes: notes
    import torch
    import torch.distributed as dist

    # Its own group, so that it works beside NCCL and never meets the collectives of training
    group = dist.new_group(backend="gloo")

    def agree(notes: Notes) -> Notes:
        values = torch.tensor(astuple(notes), dtype=torch.int64)
        dist.all_reduce(values, op=dist.ReduceOp.MAX, group=group)
        return Notes(*(int(value) for value in values))

    return agree


class Boundaries:
    """Which steps are boundaries: a pure function of steps and what the first rank's clock says."""

    def __init__(self, start: int, every_steps: int | None, total: int | None) -> None:
        self.next = start + 1
        self._every = every_steps
        self._total = total

    def reached(self, step: int) -> bool:
        """Whether ranks compare notes after ``step`` steps."""
        return step >= self.next or self.due(step) or step == self._total

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due because of the number of steps."""
        return self._every is not None and step % self._every == 0

    def agreed(self, step: int, interval: int) -> None:
        """Set the next boundary."""
        self.next = step + max(1, interval)


def interval_of(steps: int, seconds: float) -> int:
    """Steps between boundaries, so that they are ``BOUNDARY_S`` apart at the measured speed."""
    if steps <= 0 or seconds <= 0:
        return 1
    return max(1, min(10_000, round(BOUNDARY_S * steps / seconds)))
