"""What ``eksml.stream`` was asked to do, checked as a whole before anything starts."""

from __future__ import annotations

from pydantic import Field

from eksml.cluster import Demand
from eksml.cluster.problems import Spec
from eksml.cluster.quantity import Bytes
from eksml.streams.keys import NUM_GROUPS


class StreamJob(Spec):
    """Everything about a stream but its graph."""

    parallelism: int = Field(default=1, ge=1, le=NUM_GROUPS)
    """Workers that share the keys; each takes one CPU."""
    checkpoint_every_s: float = Field(default=10.0, gt=0)
    """Seconds from one checkpoint to the next: how much is done again after a failure, and how long
    effects that happen once wait."""
    tries: int = Field(default=3, ge=1)
    """How often a function is tried on an event until that is poison."""
    state_memory: Bytes = 2 << 30
    """State of one worker's task that may lie in memory, about; more goes to its local disk."""
    max_failures: int = Field(default=10, ge=-1)
    """Failures in a row without a new checkpoint between them that are survived; -1: any number."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after the start of an attempt at which it stops at a checkpoint."""

    def demand(self, models: tuple[dict[str, float], ...] = ()) -> Demand:
        """What has to be placed, for preflight: workers, and actors of ``infer``."""
        bundles: tuple[dict[str, float], ...] = ({"CPU": 1.0},) * self.parallelism
        return Demand(bundles + tuple(each for each in models if each), what="workers and models")
