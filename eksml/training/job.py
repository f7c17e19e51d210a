"""What ``eksml.train`` was asked to do, checked as a whole before anything starts."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eksml.cluster import Demand
from eksml.cluster.problems import Spec

DEFAULT_EVERY_S = 60.0


class Checkpointing(Spec):
    """When checkpoints are taken and how they are kept."""

    every_steps: int | None = Field(default=None, gt=0)
    """Steps between checkpoints."""
    every_s: float | None = Field(default=None, gt=0)
    """Seconds between checkpoints; 60 where neither is given. May be combined with steps."""
    keep: int = Field(default=3, ge=1)
    """Newest checkpoints that stay; older ones are deleted."""
    give_up_s: float = Field(default=600.0, gt=0)
    """How long one checkpoint is tried again while storage does not answer, before the run stops
    with an error. Training goes on meanwhile."""
    check_finite: bool = True
    """Refuse to commit NaN and infinity, and stop the run instead."""

    @property
    def seconds(self) -> float | None:
        """Seconds between checkpoints, the default filled in."""
        if self.every_s is None and self.every_steps is None:
            return DEFAULT_EVERY_S
        return self.every_s


class TrainJob(Spec):
    """Everything about a training run but the function and its data."""

    workers: int = Field(default=1, ge=1, le=100_000)
    """Processes that train together, one rank each."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {"CPU": 1.0}
    )
    """What each worker needs, by Ray's names: ``{"CPU": 4, "GPU": 1}``."""
    checkpoint: Checkpointing = Checkpointing()
    max_failures: int = Field(default=3, ge=-1)
    """Failures in a row without a new checkpoint between them that are survived; -1: any number.
    Spot reclaims that were announced do not count."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Seeds torch, numpy and Python on each worker, plus its rank."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after the start of an attempt at which it stops at a checkpoint."""
    budget_node_hours: float | None = Field(default=None, gt=0)
    """Node-hours, over all attempts, after which the run stops at a checkpoint."""

    def demand(self, *, reads_data: bool) -> Demand:
        """What has to be placed, for preflight. Ray Data needs a CPU that no worker holds: without
        one the workers would wait for their first batch for ever."""
        bundles: tuple[dict[str, float], ...] = (self.resources,) * self.workers
        if reads_data:
            return Demand((*bundles, {"CPU": 1.0}), what="workers and 1 CPU to read data")
        return Demand(bundles, what="workers")
