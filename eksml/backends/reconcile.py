"""What the keeper should do next: a pure function of what is wanted and what is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from eksml.backends.state import HEAD, NodeState

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Start:
    """Start a node of this group."""

    group: str


@dataclass(frozen=True)
class Stop:
    """Drain this node, then end it: the group has one too many."""

    node: str


@dataclass
class Failures:
    """Nodes of one group that ended before they had joined, since the last that did join."""

    count: int = 0
    last_at: float = 0.0

    def pause_over(self, now: float) -> bool:
        """Whether another try is due; pauses double up to 30 s."""
        if not self.count:
            return True
        pause = min(_FIRST_PAUSE_S * 2.0 ** (self.count - 1), _LONGEST_PAUSE_S)
        return now >= self.last_at + pause


def reconcile(
    wanted: Mapping[str, int],
    nodes: Iterable[NodeState],
    failures: Mapping[str, Failures],
    now: float,
) -> list[Start | Stop]:
    """Steps towards ``wanted`` nodes per group.

    A draining node still fills its place: its replacement starts when it is gone, as a reclaimed
    machine's does. Nothing starts before the head runs, and only one node at a time: nodes that
    share Ray's folder choose the names of their sockets by what is there already.
    """
    present = list(nodes)
    head_runs = any(node.group == HEAD and node.phase == "running" for node in present)
    may_start = head_runs and not any(node.phase == "starting" for node in present)
    steps: list[Start | Stop] = []
    for group, count in wanted.items():
        here = [node for node in present if node.group == group]
        staying = [node for node in here if node.phase != "draining"]
        newest_first = sorted(staying, key=lambda node: -node.started_at)
        steps += [Stop(node.id) for node in newest_first[: max(0, len(staying) - count)]]
        if may_start and len(here) < count and failures.get(group, Failures()).pause_over(now):
            steps.append(Start(group))
            may_start = False
    return steps
