"""The loop of a stream's driver: keep sources reading, make checkpoints, grant wishes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

from eksml.errors import AlreadyExists
from eksml.runs.driver import Attempt
from eksml.streams import checkpoints, wishes
from eksml.streams.crew import Crew, TasksLost
from eksml.streams.graph import Graph
from eksml.streams.job import StreamJob
from eksml.streams.report import Reporter

_SLICE_S = 0.25
"""How long a source reads until it has to be told to go on: it stops soon when nobody does."""
_READS = 2
"""Tellings that a source task has in hand."""
_LOOK_S = {"file": 0.2, "s3": 2.0}
"""Pause between looks for wishes."""
_CHECKPOINT_S = 600.0
"""A checkpoint that takes longer has failed, and the stream starts again."""

Outcome = Literal["ended", "stopped", "again"]


@dataclass
class Standing:
    """How an attempt stands, from one crew to the next."""

    parallelism: int
    wish: wishes.Wish | None
    """The last wish that was granted."""
    epoch: int = 0
    """Of the newest checkpoint."""
    failures: int = 0
    """Since that checkpoint."""
    paused: bool = False


class Shift:
    """The work of one crew, until the stream ends, stops, or needs another crew."""

    def __init__(
        self,
        attempt: Attempt,
        graph: Graph,
        job: StreamJob,
        standing: Standing,
        reporter: Reporter,
        crew: Crew,
    ) -> None:
        self._attempt = attempt
        self._run = attempt.run
        self._graph = graph
        self._every_s = job.checkpoint_every_s
        self._standing = standing
        self._reporter = reporter
        self._crew = crew
        self._reads: dict[Any, Any] = {}
        self._reading = dict.fromkeys(crew.sources, 0)
        self._ended: set[Any] = set()
        self._began_s = time.monotonic()
        self._looked_s = 0.0

    def work(self) -> Outcome:
        """Work until the sources have ended, or a stop or a new crew is wanted."""
        while True:
            if len(self._ended) == len(self._reading):
                return self._end()
            due_s = math.inf
            if not self._standing.paused:
                due_s = self._began_s + self._every_s
            self._read(due_s)
            if time.monotonic() >= due_s:
                self._checkpoint()
            outcome = self._look()
            if outcome is not None:
                return outcome

    def _end(self) -> Outcome:
        """The last checkpoint: all events have come to their sinks."""
        self._checkpoint(ended=True)
        self._reporter.final(self._crew)
        return "ended"

    def _read(self, due_s: float) -> None:
        """Keep every source reading, until something has happened or it is time for more."""
        wait_s = min(due_s - time.monotonic(), _LOOK_S[self._run.scheme])
        self._turn(max(0.0, wait_s), [])
        self._reporter.look(self._crew)

    def _turn(self, wait_s: float, awaited: list[Any]) -> list[Any]:
        """Wait for anything; the answers of ``awaited`` that have come. Sources that have read for
        their time are told to read on."""
        import ray

        crew = self._crew
        if not self._standing.paused:
            for task in self._reading:
                while task not in self._ended and self._reading[task] < _READS:
                    [answer] = crew.ask([task], "read", _SLICE_S)
                    self._reads[answer] = task
                    self._reading[task] += 1
        done, _ = ray.wait([*self._reads, *awaited, *crew.failures], timeout=wait_s)
        came = []
        for each in done:
            if each in crew.failures:
                crew.raise_failure()
            task = self._reads.pop(each, None)
            if task is None:
                came.append(each)
                continue
            self._reading[task] -= 1
            if crew.get(each):
                self._ended.add(task)
        return came

    def _all(self, answers: list[Any]) -> list[Any]:
        """Wait for answers of tasks while sources go on.

        Raises:
            TasksLost, Failed: A task died or failed meanwhile, or it takes too long.
        """
        waiting, limit = list(answers), time.monotonic() + _CHECKPOINT_S
        while waiting:
            if time.monotonic() > limit:
                raise TasksLost(f"a checkpoint was not done within {_CHECKPOINT_S} s")
            for each in self._turn(1.0, waiting):
                self._crew.get(each)
                waiting.remove(each)
        return [self._crew.get(each) for each in answers]

    def _checkpoint(self, ended: bool = False, kind: str = checkpoints.CHECKPOINTS) -> None:
        """Barrier, snapshots, manifest, commit: one after the other."""
        crew = self._crew
        began_s = time.monotonic()
        epoch = self._standing.epoch + 1
        self._all(crew.ask(crew.sources, "barrier", epoch))
        asked = crew.ask(crew.tasks.values(), "snapshot", epoch)
        snapshots = dict(zip(crew.tasks, self._all(asked), strict=True))
        meta = checkpoints.meta_of(
            epoch,
            self._graph,
            crew.plan.parallelism,
            snapshots,
            run=self._run,
            attempt=self._attempt.number,
            ended=ended,
        )
        self._write(meta, kind)
        self._standing.epoch, self._standing.failures = epoch, 0
        commits = [
            task.commit.remote(
                crew.incarnation, epoch, snapshots[place].prepared, snapshots[place].positions
            )
            for place, task in crew.tasks.items()
        ]
        self._all(commits)
        checkpoints.retire(self._run)
        self._began_s = time.monotonic()
        self._reporter.checkpoint(epoch, snapshots.values(), self._began_s - began_s)

    def _write(self, meta: dict[str, Any], kind: str) -> None:
        """Make the checkpoint exist, unless the run is somebody else's.

        Raises:
            Fenced: It is.
            TasksLost: An older owner was faster with this epoch: go on from what it left.
        """
        self._attempt.check_fenced()
        try:
            checkpoints.write(self._run, meta)
        except AlreadyExists as error:
            raise TasksLost(str(error)) from error
        if kind != checkpoints.CHECKPOINTS:
            checkpoints.write(self._run, meta, kind)

    def _look(self) -> Outcome | None:
        """See whether somebody wants something, and do it."""
        if time.monotonic() - self._looked_s < _LOOK_S[self._run.scheme]:
            return None
        self._looked_s = time.monotonic()
        if self._attempt.stop_requested() is not None:
            self._checkpoint()
            return "stopped"
        wish = wishes.read(self._run / wishes.FILE)
        if wish is None or (
            self._standing.wish is not None and wish.token == self._standing.wish.token
        ):
            return None
        outcome = self._grant(wish)
        self._standing.wish = wish
        wishes.answer(self._run, wish)
        return outcome

    def _grant(self, wish: wishes.Wish) -> Outcome | None:
        crew = self._crew
        if wish.verb == "drain":
            self._all(crew.ask(crew.sources, "drain"))
            return self._end()
        if wish.verb == "resume":
            self._standing.paused = False
            return None
        if wish.verb == "savepoint":
            self._checkpoint(kind=checkpoints.SAVEPOINTS)
            return None
        if wish.verb == "pause":
            self._standing.paused = True
            while self._reads:
                self._turn(1.0, [])
        self._checkpoint()
        if wish.verb == "rescale":
            assert wish.parallelism is not None
            self._standing.parallelism = wish.parallelism
            self._record(wish.parallelism)
            return "again"
        return None

    def _record(self, parallelism: int) -> None:
        """So that a driver that is started again keeps to it."""
        spec = self._attempt.record.spec
        job = {**spec.get("job", {}), "parallelism": parallelism}
        self._attempt.update(spec={**spec, "job": job})
