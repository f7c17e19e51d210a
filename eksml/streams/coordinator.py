"""Drives a stream: keeps its sources reading, makes its checkpoints, and starts it again from the
last one when a task dies."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from typing import Any, Literal

from eksml.errors import AlreadyExists, RunCancelled, RunFailed
from eksml.runs.driver import Attempt
from eksml.storage import URI
from eksml.streams import checkpoints, pool, wishes
from eksml.streams.assignment import Restored
from eksml.streams.crew import Bench, Crew, Failed, TasksLost
from eksml.streams.graph import Graph
from eksml.streams.job import StreamJob
from eksml.streams.operators.infer import Infer
from eksml.streams.plan import plan
from eksml.streams.report import Reporter
from eksml.streams.sinks.base import Sink

_SLICE_S = 0.25
"""How long a source reads until it has to be told to go on: it stops soon when nobody does."""
_READS = 2
"""Tellings that a source task has in hand."""
_LOOK_S = {"file": 0.2, "s3": 2.0}
"""Pause between looks for wishes."""
_CHECKPOINT_S = 600.0
"""A checkpoint that takes longer has failed, and the stream starts again."""

Outcome = Literal["ended", "stopped", "again"]


class Coordinator:
    """One attempt at a stream, in the driver's process."""

    def __init__(
        self,
        attempt: Attempt,
        graph: Graph,
        job: StreamJob,
        *,
        dead_letters: Sink | None = None,
        savepoint: URI | None = None,
    ) -> None:
        self._attempt = attempt
        self._run = attempt.run
        self._graph = graph
        self._job = job
        self._dead_letters = dead_letters
        self._savepoint = savepoint
        self._parallelism = job.parallelism
        self._incarnation = attempt.number * 1_000_000
        self._epoch = 0
        self._failures = 0
        self._paused = False
        self._wish: wishes.Wish | None = wishes.read(self._run / wishes.ANSWER)
        self._bench = Bench()
        self._reporter = Reporter(attempt, graph)

    def run(self) -> dict[str, Any]:
        """Work until the sources have ended or somebody wants it to stop; the run's result.

        Raises:
            RunFailed: The user's code failed, or tasks died too often.
            RunCancelled: It was asked to stop.
            Fenced: Another process took the run over.
        """
        pools = {
            step.name: pool.start(step.spec)
            for step in self._graph.steps
            if isinstance(step.spec, Infer)
        }
        try:
            while True:
                outcome = self._incarnate(pools)
                if outcome == "ended":
                    return self._reporter.result(self._epoch)
                if outcome == "stopped":
                    stop = self._attempt.stop_requested()
                    why = stop.stop if stop else "cancel"
                    raise RunCancelled(f"{self._run.name} was stopped at a checkpoint: {why}.")
        finally:
            pool.stop(pools)
            self._bench.clear()
            self._reporter.close()

    def _incarnate(self, pools: Mapping[str, Any]) -> Outcome:
        """Start the tasks from the last checkpoint and work until that has to be done again."""
        self._attempt.check_fenced()
        self._incarnation += 1
        restored = self._restored()
        self._epoch = restored.epoch
        layout = plan(self._graph, self._parallelism)
        crew = Crew(
            self._bench,
            layout,
            self._run,
            _identity(self._attempt),
            self._attempt.number,
            self._incarnation,
            restored,
            dead_letters=self._dead_letters,
            tries=self._job.tries,
            pools=dict(pools),
        )
        try:
            with crew:
                self._reporter.started(crew)
                return Shift(self, crew).work()
        except TasksLost as lost:
            self._lost(lost)
            return "again"
        except Failed as failed:
            self._attempt.fail(failed.failure.error)
            where = f" in {failed.failure.step}" if failed.failure.step else ""
            raise RunFailed(
                f"{failed.failure.error.traceback}\n\n{self._run.name} failed{where}."
            ) from failed

    def _restored(self) -> Restored:
        if not self._incarnation % 1_000_000 > 1:
            checkpoints.sweep(self._run, self._attempt.number)
        meta = checkpoints.newest(self._run)
        if meta is not None:
            return checkpoints.restored(meta)
        if self._savepoint is not None:
            meta = checkpoints.read(self._savepoint)
            return checkpoints.restored(meta, with_prepared=False)
        return checkpoints.nothing(self._run, self._parallelism)

    def _lost(self, lost: TasksLost) -> None:
        """Count the failure; give up after too many.

        Raises:
            RunFailed: It was one too many.
        """
        self._reporter.lost(str(lost))
        self._failures += 1
        limit = self._job.max_failures
        if 0 <= limit < self._failures:
            if lost.failure is not None:
                self._attempt.fail(lost.failure.error)
            raise RunFailed(
                f"{self._run.name}: tasks were lost {self._failures} times without a new "
                f"checkpoint between. The last time: {lost} Call eksml.stream again with the same "
                "name to go on, with a larger max_failures if it was bad luck."
            )


def _identity(attempt: Attempt) -> str:
    made = f"{attempt.run} {attempt.record.created_s}"
    return hashlib.sha256(made.encode()).hexdigest()[:12]


class Shift:
    """The work of one crew."""

    def __init__(self, owner: Coordinator, crew: Crew) -> None:
        self._owner = owner
        self._crew = crew
        self._reads: dict[Any, Any] = {}
        self._reading = dict.fromkeys(crew.sources, 0)
        self._ended: set[Any] = set()
        self._began_s = time.monotonic()
        self._looked_s = 0.0

    def work(self) -> Outcome:
        """Work until the sources have ended, or a stop or a new crew is wanted."""
        owner = self._owner
        while True:
            if len(self._ended) == len(self._reading):
                return self._end()
            due_s = math.inf
            if not owner._paused:
                due_s = self._began_s + owner._job.checkpoint_every_s
            self._read(due_s)
            if time.monotonic() >= due_s:
                self._checkpoint()
            outcome = self._look()
            if outcome is not None:
                return outcome

    def _end(self) -> Outcome:
        """The last checkpoint: all events have come to their sinks."""
        self._checkpoint(ended=True)
        self._owner._reporter.final(self._crew)
        return "ended"

    def _read(self, due_s: float) -> None:
        """Keep every source reading, until something has happened or it is time for more."""
        wait_s = min(due_s - time.monotonic(), _LOOK_S[self._owner._run.scheme])
        self._turn(max(0.0, wait_s), [])
        self._owner._reporter.look(self._crew)

    def _turn(self, wait_s: float, awaited: list[Any]) -> list[Any]:
        """Wait for anything; the answers of ``awaited`` that have come. Sources that have read for
        their time are told to read on."""
        import ray

        crew = self._crew
        if not self._owner._paused:
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
        owner, crew = self._owner, self._crew
        began_s = time.monotonic()
        epoch = owner._epoch + 1
        self._all(crew.ask(crew.sources, "barrier", epoch))
        asked = crew.ask(crew.tasks.values(), "snapshot", epoch)
        snapshots = dict(zip(crew.tasks, self._all(asked), strict=True))
        meta = checkpoints.meta_of(
            epoch,
            owner._graph,
            crew.plan.parallelism,
            snapshots,
            run=owner._run,
            attempt=owner._attempt.number,
            ended=ended,
        )
        self._write(meta, kind)
        owner._epoch, owner._failures = epoch, 0
        commits = [
            task.commit.remote(
                crew.incarnation, epoch, snapshots[place].prepared, snapshots[place].positions
            )
            for place, task in crew.tasks.items()
        ]
        self._all(commits)
        checkpoints.retire(owner._run)
        self._began_s = time.monotonic()
        owner._reporter.checkpoint(epoch, snapshots.values(), self._began_s - began_s)

    def _write(self, meta: dict[str, Any], kind: str) -> None:
        """Make the checkpoint exist, unless the run is somebody else's.

        Raises:
            Fenced: It is.
            TasksLost: An older owner was faster with this epoch: go on from what it left.
        """
        owner = self._owner
        owner._attempt.check_fenced()
        try:
            checkpoints.write(owner._run, meta)
        except AlreadyExists as error:
            raise TasksLost(str(error)) from error
        if kind != checkpoints.CHECKPOINTS:
            checkpoints.write(owner._run, meta, kind)

    def _look(self) -> Outcome | None:
        """See whether somebody wants something, and do it."""
        owner = self._owner
        if time.monotonic() - self._looked_s < _LOOK_S[owner._run.scheme]:
            return None
        self._looked_s = time.monotonic()
        if owner._attempt.stop_requested() is not None:
            self._checkpoint()
            return "stopped"
        wish = wishes.read(owner._run / wishes.FILE)
        if wish is None or (owner._wish is not None and wish.token == owner._wish.token):
            return None
        outcome = self._grant(wish)
        owner._wish = wish
        wishes.answer(owner._run, wish)
        return outcome

    def _grant(self, wish: wishes.Wish) -> Outcome | None:
        owner, crew = self._owner, self._crew
        if wish.verb == "drain":
            self._all(crew.ask(crew.sources, "drain"))
            return self._end()
        if wish.verb == "resume":
            owner._paused = False
            return None
        if wish.verb == "savepoint":
            self._checkpoint(kind=checkpoints.SAVEPOINTS)
            return None
        if wish.verb == "pause":
            owner._paused = True
            while self._reads:
                self._turn(1.0, [])
        self._checkpoint()
        if wish.verb == "rescale":
            assert wish.parallelism is not None
            owner._parallelism = wish.parallelism
            return "again"
        return None
