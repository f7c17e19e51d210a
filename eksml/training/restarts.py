"""Whether a run that failed is started again: a run that makes progress is, one that does not is
not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eksml.errors import RunCancelled, RunFailed
from eksml.runs.control import read_stop
from eksml.storage import URI
from eksml.training import incarnation
from eksml.training.checkpoints import steps_of


@dataclass
class Budget:
    """Failures in a row that brought nothing new. Pure: no clock, no storage.

    An announced spot reclaim never counts. An exception of the user's own code is tried again only
    if a checkpoint was committed since the last failure, since the same code on the same data
    mostly fails again.
    """

    max_failures: int
    progress: int
    """Step of the newest checkpoint at the last failure, or at the start."""
    failures: int = 0

    def spend(self, kinds: set[str], progress: int) -> str | None:
        """Count a failure.

        Args:
            kinds: Of ``Failure.kind`` on the ranks that left one; none if they were killed.
            progress: Step of the newest checkpoint now.

        Returns:
            None to start again, else why not.
        """
        advanced, self.progress = progress > self.progress, max(progress, self.progress)
        if kinds == {"preempted"}:
            return None
        self.failures = 1 if advanced else self.failures + 1
        if "user" in kinds and not advanced:
            return "the training function failed, and no checkpoint was taken since it last started"
        if 0 <= self.max_failures < self.failures:
            plural = "s" if self.failures > 1 else ""
            return (
                f"{self.failures} failure{plural} without a new checkpoint in between "
                f"(max_failures={self.max_failures})"
            )
        return None


@dataclass
class Restarts:
    """The policy at work in Ray Train's controller. ``callback()`` is given to ``RunConfig``."""

    run: URI
    max_failures: int
    reported: int = 0
    """Checkpoints that a plain ``ray.train`` function reported."""
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(self.max_failures, self._progress())

    def _progress(self) -> int:
        return max(steps_of(self.run), default=0) + self.reported

    def failed(self, errors: Mapping[int, Exception]) -> None:
        """Decide; returning lets Ray Train start the workers again.

        Raises:
            RunCancelled: The run was asked to stop.
            RunFailed: It is not worth another try.
        """
        if stop := read_stop(self.run):
            raise RunCancelled(f"{self.run.name} was stopped: {stop.stop}.")
        failures = incarnation.read_failures(self.run, incarnation.newest(self.run))
        kinds = {failure.kind for failure in failures.by_rank.values()}
        reason = self.budget.spend(kinds, self._progress())
        if reason:
            raise RunFailed(f"Not started again: {reason}.")

    def callback(self) -> Any:
        """This policy as Ray Train calls it."""
        from ray.train import UserCallback

        policy = self

        class Callback(UserCallback):  # type: ignore[misc]
            def after_report(self, run_context: Any, metrics: Any, checkpoint: Any) -> None:
                policy.reported += checkpoint is not None

            def after_exception(
                self, run_context: Any, worker_exceptions: dict[int, Exception]
            ) -> None:
                policy.failed(worker_exceptions)

        return Callback()
