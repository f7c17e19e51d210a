"""Drives a stream: keeps its sources reading, makes its checkpoints, and starts it again from the
last one when a task dies."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from eksml.errors import RunCancelled, RunFailed
from eksml.runs.driver import Attempt
from eksml.storage import URI
from eksml.streams import checkpoints, pool, wishes
from eksml.streams.assignment import INCARNATIONS, Restored
from eksml.streams.crew import Bench, Crew, Failed, TasksLost
from eksml.streams.graph import Graph
from eksml.streams.job import StreamJob
from eksml.streams.operators.infer import Infer
from eksml.streams.plan import plan
from eksml.streams.report import Reporter
from eksml.streams.shift import Outcome, Shift, Standing
from eksml.streams.sinks.base import Sink


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
        self._incarnation = attempt.number * INCARNATIONS
        wish = wishes.read(self._run / wishes.ANSWER)
        self._standing = Standing(job.parallelism, wish)
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
                    return self._reporter.result(self._standing.epoch)
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
        self._standing.epoch = restored.epoch
        layout = plan(self._graph, self._standing.parallelism)
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
            state_memory=self._job.state_memory,
            pools=dict(pools),
        )
        try:
            with crew:
                self._reporter.started(crew)
                shift = Shift(
                    self._attempt, self._graph, self._job, self._standing, self._reporter, crew
                )
                outcome = shift.work()
                crew.finish_logs()
                return outcome
        except TasksLost as lost:
            self._lost(lost)
            return "again"
        except Failed as failed:
            crew.finish_logs()
            self._attempt.fail(failed.failure.error)
            where = f" in {failed.failure.step}" if failed.failure.step else ""
            raise RunFailed(
                f"{failed.failure.error.traceback}\n\n{self._run.name} failed{where}."
            ) from failed

    def _restored(self) -> Restored:
        if not self._incarnation % INCARNATIONS > 1:
            checkpoints.sweep(self._run, self._attempt.number)
        meta = checkpoints.newest(self._run)
        if meta is not None:
            return checkpoints.restored(meta)
        if self._savepoint is not None:
            meta = checkpoints.read(self._savepoint)
            return checkpoints.restored(meta, with_prepared=False)
        return checkpoints.nothing(self._run, self._standing.parallelism)

    def _lost(self, lost: TasksLost) -> None:
        """Count the failure; give up after too many.

        Raises:
            RunFailed: It was one too many.
        """
        self._reporter.lost(str(lost))
        self._standing.failures += 1
        limit = self._job.max_failures
        if 0 <= limit < self._standing.failures:
            if lost.failure is not None:
                self._attempt.fail(lost.failure.error)
            raise RunFailed(
                f"{self._run.name}: tasks were lost {self._standing.failures} times without a new "
                f"checkpoint between. The last time: {lost} Call eksml.stream again with the same "
                "name to go on, with a larger max_failures if it was bad luck."
            )


def _identity(attempt: Attempt) -> str:
    made = f"{attempt.run} {attempt.record.created_s}"
    return hashlib.sha256(made.encode()).hexdigest()[:12]
