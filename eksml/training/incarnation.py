"""Which start of the workers owns a run: numbers that only ever grow, claimed one by one.

An *incarnation* is one start of all workers, by the driver or by Ray Train after a failure. The
newest one owns the run; an older one that comes back to life must not commit anything.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from eksml.errors import AlreadyExists, Fenced, RunError
from eksml.runs import ErrorRecord
from eksml.storage import URI

_FOLDER = "incarnations"
_FAILURES = "failures"
_TRIES = 100


def newest(run: URI) -> int:
    """The number of the incarnation that owns the run; 0 before the first."""
    return max((int(stat.uri.name.split(".")[0]) for stat in (run / _FOLDER).list()), default=0)


def claim(run: URI, attempt: int, workers: int) -> int:
    """Become the newest incarnation. Called by the first rank.

    Raises:
        RunError: Others claim numbers faster than this one can.
    """
    for _ in range(_TRIES):
        number = newest(run) + 1
        record = {"attempt": attempt, "workers": workers, "started_s": time.time()}
        try:
            (run / _FOLDER / f"{number:06d}.json").write_json(record, if_absent=True)
        except AlreadyExists:
            continue
        return number
    raise RunError(f"Could not claim {run} in {_TRIES} tries: who else starts this run?")


def check_owner(run: URI, number: int) -> None:
    """Ask before a commit.

    Raises:
        Fenced: A newer incarnation owns the run.
    """
    owner = newest(run)
    if owner > number:
        raise Fenced(
            f"{run} is owned by incarnation {owner} of its workers; number {number} stops here."
        )


class Failure(BaseModel):
    """How one rank's training function failed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """``user``: an exception of the training function; ``collateral``: another rank was lost while
    this one spoke to it; ``preempted``: it stopped for a spot notice, as it should."""
    error: ErrorRecord


@dataclass(frozen=True)
class Failures:
    """The failures of one incarnation."""

    by_rank: dict[int, Failure]

    @property
    def root(self) -> ErrorRecord | None:
        """The user's exception that explains the others, if there is one."""
        users = [rank for rank, failure in self.by_rank.items() if failure.kind == "user"]
        return self.by_rank[min(users)].error if users else None


def write_failure(run: URI, number: int, rank: int, failure: Failure) -> None:
    """Leave word of why this rank's function ended."""
    place = run / _FAILURES / f"{number:06d}" / f"rank-{rank:05d}.json"
    place.write_json(failure.model_dump())


def read_failures(run: URI, number: int) -> Failures:
    """What the ranks of an incarnation left; killed ones leave nothing."""
    folder = run / _FAILURES / f"{number:06d}"
    found = {
        int(stat.uri.name[5:10]): Failure.model_validate(stat.uri.read_json())
        for stat in folder.list()
    }
    return Failures(found)
