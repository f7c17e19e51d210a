"""Drives a stream: in the caller's process, or as a job on a cluster."""

from __future__ import annotations

from eksml.runs.driver import Attempt
from eksml.storage import URI
from eksml.streams.coordinator import Coordinator
from eksml.streams.graph import Graph
from eksml.streams.job import StreamJob
from eksml.streams.sinks.base import Sink


def drive(
    run: URI,
    graph: Graph,
    job: StreamJob,
    *,
    dead_letters: Sink | None = None,
    savepoint: URI | None = None,
) -> None:
    """Work to the end of the sources, or to what ends it; leaves everything in the run's folder.

    Raises:
        RunFailed: The user's code failed, or tasks died too often. The user's traceback first.
        RunCancelled: It was asked to stop.
        Fenced: Another process took the run over.
    """
    with Attempt(run) as attempt:
        (run / "graph.mmd").write_bytes(graph.picture().encode())
        coordinator = Coordinator(
            attempt, graph, job, dead_letters=dead_letters, savepoint=savepoint
        )
        attempt.write_result(coordinator.run())
