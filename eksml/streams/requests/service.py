"""Keeps as many workers on a queue or topic as it wants, and starts dead ones anew."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from eksml.errors import RunCancelled, RunFailed, StorageUnavailable
from eksml.runs.driver import Attempt
from eksml.runs.progress import Progress, write_progress
from eksml.streams.parcel import Parcel
from eksml.streams.requests.scaling import Scaling
from eksml.streams.requests.supply import supply_of
from eksml.streams.requests.worker import Outcome, Post, Worker

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_LOOK_S = 0.5
"""Pause between looks at the queue's length."""
_IDLE_S = 0.02
"""How long a worker of a topic is idle at a time while messages may come."""
_STILLBORN = 5
"""So many workers in a row that do not become ready end the run."""


class Service:
    """The driver's loop over one queue or topic."""

    def __init__(
        self, attempt: Attempt, post: Post, scaling: Scaling, resources: dict[str, float]
    ) -> None:
        self._attempt = attempt
        self._scaling = scaling
        self._resources = resources
        self._parcel = Parcel.of(post)
        self._supply = supply_of(post, scaling.most)
        self._idle: list[ActorHandle] = []
        self._working: dict[Any, ActorHandle] = {}
        """Workers by the answers that they owe; at first that they are there."""
        self._starting: set[Any] = set()
        self._busy: set[ActorHandle] = set()
        """Workers that have a message, or had one the last time."""
        self._counts: Counter[str] = Counter()
        self._restarts = 0
        self._waiting = self._surplus = self._stillborn = 0

    def run(self) -> None:
        """Work until the run is asked to stop.

        Raises:
            RunCancelled: It was.
            RunFailed: Workers cannot be started.
            Fenced: Another process took the run over.
        """
        try:
            while True:
                began_s = time.monotonic()
                if stop := self._attempt.stop_requested():
                    raise RunCancelled(f"{self._attempt.run.name} was stopped: {stop.stop}.")
                if self._attempt.fenced:
                    self._attempt.check_fenced()
                self._scale()
                self._tell()
                while time.monotonic() - began_s < _LOOK_S:
                    self._collect(_LOOK_S - (time.monotonic() - began_s))
        finally:
            self._end()

    def _scale(self) -> None:
        try:
            self._waiting = self._supply.waiting()
        except StorageUnavailable:
            return  # as many as there are will do meanwhile
        workers = len(self._working) + len(self._idle)
        wanted = self._scaling.wanted(self._waiting, len(self._busy), workers, time.monotonic())
        for _ in range(wanted - workers):
            self._start()
        self._surplus = max(0, workers - wanted)

    def _start(self) -> None:
        import ray

        given = self._resources
        rest = {name: amount for name, amount in given.items() if name not in ("CPU", "GPU")}
        kind = ray.remote(Worker).options(
            num_cpus=given.get("CPU", 0), num_gpus=given.get("GPU", 0), resources=rest or None
        )
        worker = kind.remote(self._parcel)
        answer = worker.ready.remote()  # it may take long until it has a place and its model
        self._working[answer] = worker
        self._starting.add(answer)

    def _offer(self) -> None:
        """Give idle workers something to do, or send them home if there are too many."""
        import ray

        idle, self._idle = self._idle, []
        for worker in idle:
            if self._surplus and worker not in self._busy:
                self._surplus -= 1
                ray.kill(worker)
                continue
            answer = None
            with contextlib.suppress(StorageUnavailable):
                answer = self._supply.give(worker)
            if answer is None:
                self._idle.append(worker)
                self._busy.discard(worker)
                continue
            self._working[answer] = worker
            if self._supply.is_sure:
                self._busy.add(worker)

    def _collect(self, timeout_s: float) -> None:
        """Take answers, for so long at the most."""
        import ray

        self._offer()
        pause_s = min(timeout_s, _IDLE_S) if self._idle else timeout_s
        if not self._working:
            time.sleep(max(0.0, pause_s))
            return
        done, _ = ray.wait(list(self._working), timeout=max(0.0, pause_s))
        for answer in done:
            self._take(answer)

    def _take(self, answer: Any) -> None:
        import ray

        worker = self._working.pop(answer)
        outcome: Outcome | None = None
        try:
            outcome = ray.get(answer)
        except ray.exceptions.RayActorError as error:
            self._restarts += 1  # the next look starts another worker
            ray.kill(worker)  # it may only be out of reach
            if answer in self._starting:
                self._bear(error)
        self._busy.discard(worker)
        if outcome is not None:
            self._idle.append(worker)
        if answer in self._starting:
            self._starting.remove(answer)
            self._stillborn *= outcome is None
            return
        if outcome not in (None, "nothing"):
            self._busy.add(worker)
        self._counts[self._supply.ended(answer, outcome)] += 1

    def _bear(self, error: Exception) -> None:
        """A worker has died before it was ready.

        Raises:
            RunFailed: None becomes ready.
        """
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            raise RunFailed(
                f"{error}\n\n{self._attempt.run.name}: {self._stillborn} workers in a row died "
                "before they were ready. What the handler does when it is made is to blame, or "
                "they need more memory."
            ) from error

    def _tell(self) -> None:
        workers = len(self._working) + len(self._idle)
        metrics = {"workers": workers, "waiting": self._waiting, "restarts": self._restarts}
        counts = {outcome: count for outcome, count in self._counts.items() if outcome != "nothing"}
        progress = Progress(step=self._counts["done"], metrics={**metrics, **counts})
        write_progress(self._attempt.run, progress)

    def _end(self) -> None:
        """End the workers; messages that they have come again."""
        import ray

        for worker in (*self._working.values(), *self._idle):
            ray.kill(worker)
        with contextlib.suppress(StorageUnavailable):
            self._supply.close()
