"""What a task is told when it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from eksml.storage import URI
from eksml.streams.plan import Plan
from eksml.streams.sinks.base import Sink

INCARNATIONS = 1_000_000
"""Numbers of incarnations that each attempt has for itself."""
STATE = "state"
"""Folder of a run that holds the parts of its checkpoints."""


@dataclass(frozen=True)
class Restored:
    """What a checkpoint holds, for all tasks."""

    folder: URI
    """Where the parts lie; another run's, if it began from that one's savepoint."""
    parallelism: int
    """Workers at that time."""
    state: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Chains of each step, one for each worker."""
    watermarks: dict[str, int] = field(default_factory=dict)
    """How far event time had come at each step."""
    positions: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of each source: ``at``, where it was read to, and ``times``, the latest of each split."""
    prepared: dict[str, list[Any]] = field(default_factory=dict)
    """Of each sink, tokens of the epoch that may have to be committed yet."""
    epoch: int = 0


@dataclass(frozen=True)
class Assignment:
    """One task of one incarnation of a run."""

    run: URI
    identity: str
    """Tells the run from every other, also from one that had its name and was deleted."""
    attempt: int
    incarnation: int
    """Grows with each start of the run's tasks; what comes from an older one is refused."""
    plan: Plan
    stage: int
    index: int
    restored: Restored
    dead_letters: Sink | None
    tries: int
    pools: dict[str, tuple[Any, ...]]
    """Model actors of each ``infer`` step."""
    state_memory: int | None = None
    """Bytes of state that may lie in memory, of all steps together."""
