"""Every error that eksml raises, one hierarchy.

::

    EksmlError
    ├── InvalidSpec              a specification or argument is wrong; holds every problem at once
    ├── MissingExtra             an optional dependency is not installed
    ├── StorageError
    │   ├── NotFound             no such bucket, folder or object
    │   ├── AccessDenied         no credentials, forbidden, or read-only
    │   ├── StorageUnavailable   5xx, throttling, time-outs or resets, after retries
    │   ├── AlreadyExists        a conditional write lost: somebody else wrote first
    │   └── Damaged              bytes differ from their recorded checksum or size
    ├── ClusterError
    │   ├── ClusterNotUp         asked for a cluster that is not running
    │   ├── ClusterInUse         a cluster of that name is already up
    │   ├── ClusterStartFailed   a node did not come up
    │   └── DoesNotFit           preflight: the workload can never be placed
    ├── CallError                a function or its configuration cannot travel
    ├── EngineDied               the process behind a loaded model is gone
    ├── WorkerDied               whoever had a message was gone, too often
    ├── CheckpointError
    │   ├── UnsupportedState     a value that cannot be stored without pickle
    │   └── NonFiniteState       NaN or infinity in what was to be checkpointed
    └── RunError
        ├── RunNotFound
        ├── RunNameInUse         a live or finished run has that name
        ├── RunFailed            the run failed; the user's traceback comes first
        ├── RunCancelled
        ├── RunInterrupted       its driver is gone; the same call again resumes it
        └── Fenced               a newer attempt owns this run; this one must stop

A message says what happened, on which value, and what to do. Lower libraries' errors are
translated where the library is called and are chained (``raise … from error``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class EksmlError(Exception):
    """The root. Catch this to catch everything that eksml raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input."""

    path: str
    """Where: a dotted path such as ``groups.1.nodes``, or the argument's name."""
    message: str
    """What is wrong, with the value."""
    remedy: str = ""
    """What to do, as a sentence; empty if the message already says it."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" + (f" {self.remedy}" if self.remedy else "")


class InvalidSpec(EksmlError):
    """A specification or argument is wrong. ``problems`` holds all of them, not the first."""

    def __init__(self, problems: Sequence[Problem], subject: str = "the specification") -> None:
        self.problems = tuple(problems)
        self.subject = subject
        count = len(self.problems)
        head = f"{subject} has {count} problem{'s' if count != 1 else ''}:"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type, tuple[Sequence[Problem], str]]:
        return type(self), (self.problems, self.subject)


class MissingExtra(EksmlError):
    """An optional dependency is not installed; the message holds the install command."""


class StorageError(EksmlError):
    """Reading or writing storage failed."""


class NotFound(StorageError):
    """No such bucket, folder or object."""


class AccessDenied(StorageError):
    """No credentials, not allowed, or a read-only place."""


class StorageUnavailable(StorageError):
    """The storage did not answer properly after all retries."""


class AlreadyExists(StorageError):
    """A conditional write found that the object is there already."""


class Damaged(StorageError):
    """Stored bytes differ from what was recorded when they were written."""


class ClusterError(EksmlError):
    """Starting, finding or changing a cluster failed."""


class ClusterNotUp(ClusterError):
    """The cluster that was asked for is not running."""


class ClusterInUse(ClusterError):
    """A cluster of that name is already up."""


class ClusterStartFailed(ClusterError):
    """A node of the cluster did not come up."""


class DoesNotFit(ClusterError):
    """The workload can never be placed on this cluster, however long it waits."""


class CallError(EksmlError):
    """A function, its configuration or its files cannot travel to the cluster."""


class EngineDied(EksmlError):
    """The process behind a loaded model is gone; the model may be loaded again."""


class WorkerDied(EksmlError):
    """Whoever had a message was gone before it was done, as often as it may be tried."""


class CheckpointError(EksmlError):
    """Saving or restoring a checkpoint failed."""


class UnsupportedState(CheckpointError):
    """A value in the state cannot be stored without pickle."""


class NonFiniteState(CheckpointError):
    """NaN or infinity was found in state that was to be committed."""


class RunError(EksmlError):
    """Something about a run."""


class RunNotFound(RunError):
    """No run of that name in that storage."""


class RunNameInUse(RunError):
    """A live or finished run already has that name."""


class RunFailed(RunError):
    """The run failed. Its text begins with the traceback of the user's own code, if any."""


class RunCancelled(RunError):
    """The run was cancelled, or stopped by its deadline or budget."""


class RunInterrupted(RunError):
    """The run's driver is gone. The same call with the same name resumes it."""


class Fenced(RunError):
    """A newer attempt owns this run; the one that sees this must stop and change nothing."""


_MAX_CHARACTERS = 1000
"""Of an error that is told in one line; a longer one is cut."""


def tell(error: BaseException) -> str:
    """One line on an exception of anybody: ``ValueError: cannot parse 'x'``."""
    text = " ".join(str(error).split())[:_MAX_CHARACTERS]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
