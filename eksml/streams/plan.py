"""How a graph is laid out: which steps share a task, and where events change the task.

With one worker everything is in one task, and no event leaves its process. With more, a stage is
what lies between two exchanges; each has one task for each worker, and the tasks of one worker
share its CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from eksml.streams.graph import Graph
from eksml.streams.operators.base import MAIN
from eksml.streams.operators.key_by import KeyBy

DEAD_LETTERS = "dead_letters"
"""Name of the step that takes poison events, in every task; no user's step is called that."""


@dataclass(frozen=True)
class Edge:
    """Events from an output of one step to an input of another."""

    source: str
    port: str
    target: str
    side: int
    """Which of the target's inputs."""
    local: bool
    """Both are in one task."""
    by_key: bool
    """Each event goes to the task that owns its key's group; else to that of the same number."""


@dataclass(frozen=True)
class Plan:
    """A graph's layout for a number of workers."""

    graph: Graph
    parallelism: int
    stage_of: dict[str, int]
    edges: tuple[Edge, ...]

    @property
    def num_stages(self) -> int:
        return max(self.stage_of.values()) + 1

    def steps(self, stage: int) -> list[str]:
        """The steps of a stage, in the order of the graph."""
        return [step.name for step in self.graph.steps if self.stage_of[step.name] == stage]

    def targets(self, stage: int) -> list[int]:
        """The stages that get events from this one."""
        found = {
            self.stage_of[edge.target]
            for edge in self.edges
            if not edge.local and self.stage_of[edge.source] == stage
        }
        return sorted(found)

    def senders(self, stage: int) -> list[int]:
        """The stages that this one gets events from."""
        return [each for each in range(stage) if stage in self.targets(each)]


def plan(graph: Graph, parallelism: int) -> Plan:
    """Lay a checked graph out. Events only ever go to later stages, so that barriers do too."""
    stage_of: dict[str, int] = {}
    keyed = {step.name for step in graph.steps if isinstance(step.spec, KeyBy)}
    for step in graph.steps:
        before = [
            stage_of[name] + (parallelism > 1 and name in keyed and port == MAIN)
            for name, port in step.inputs
        ]
        stage_of[step.name] = max(before, default=0)
    edges = []
    for step in graph.steps:
        for side, (name, port) in enumerate(step.inputs):
            local = stage_of[name] == stage_of[step.name]
            by_key = name in keyed and port == MAIN
            edges.append(Edge(name, port, step.name, side, local, by_key))
    return Plan(graph, parallelism, stage_of, tuple(edges))
