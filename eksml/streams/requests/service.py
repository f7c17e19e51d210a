"""Keeps as many workers on a queue as it wants, from none to many, and starts dead ones anew."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from eksml.errors import RunCancelled, StorageUnavailable
from eksml.runs.driver import Attempt
from eksml.runs.progress import Progress, write_progress
from eksml.streams.parcel import Parcel
from eksml.streams.requests.queue import Queue
from eksml.streams.requests.scaling import Scaling
from eksml.streams.requests.worker import Post, Worker

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_LOOK_S = 0.5
"""Pause between looks at the queue's length."""
_WAIT_S = 1.0
"""How long a worker waits for a message at a time."""


class Service:
    """The driver's loop over one queue."""

    def __init__(
        self, attempt: Attempt, post: Post, scaling: Scaling, resources: dict[str, float]
    ) -> None:
        self._attempt = attempt
        self._scaling = scaling
        self._resources = resources
        self._parcel = Parcel.of(post)
        self._queue = Queue(post.queue, post.visibility_s)
        self._working: dict[Any, ActorHandle] = {}
        """Workers by the answers that they owe."""
        self._busy: set[ActorHandle] = set()
        """Workers that had a message the last time."""
        self._counts: Counter[str] = Counter()
        self._restarts = 0

    def run(self) -> None:
        """Work until the run is asked to stop.

        Raises:
            RunCancelled: It was.
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
            waiting = self._queue.waiting()
        except StorageUnavailable:
            return  # as many as there are will do meanwhile
        wanted = self._scaling.wanted(
            waiting, len(self._busy), len(self._working), time.monotonic()
        )
        for _ in range(wanted - len(self._working)):
            self._ask(self._start())
        self._surplus = max(0, len(self._working) - wanted)

    def _start(self) -> ActorHandle:
        import ray

        given = self._resources
        rest = {name: amount for name, amount in given.items() if name not in ("CPU", "GPU")}
        kind = ray.remote(Worker).options(
            num_cpus=given.get("CPU", 0), num_gpus=given.get("GPU", 0), resources=rest or None
        )
        return kind.remote(self._parcel)

    def _ask(self, worker: ActorHandle) -> None:
        self._working[worker.work.remote(_WAIT_S)] = worker

    def _collect(self, timeout_s: float) -> None:
        """Take answers, and send workers back to the queue, or home if there are too many."""
        import ray

        if not self._working:
            time.sleep(max(0.0, timeout_s))
            return
        done, _ = ray.wait(list(self._working), timeout=max(0.0, timeout_s))
        for answer in done:
            worker = self._working.pop(answer)
            self._busy.discard(worker)
            try:
                outcome = ray.get(answer)
            except ray.exceptions.RayActorError:
                self._restarts += 1
                continue  # the message comes again, and the next look starts another worker
            self._counts[outcome] += outcome != "nothing"
            if outcome != "nothing":
                self._busy.add(worker)
            if self._surplus and outcome == "nothing":
                self._surplus -= 1
                ray.kill(worker)
            else:
                self._ask(worker)

    def _tell(self) -> None:
        metrics = {"workers": len(self._working), "restarts": self._restarts, **self._counts}
        progress = Progress(step=self._counts["done"], metrics=metrics)
        write_progress(self._attempt.run, progress)

    def _end(self) -> None:
        """End the workers; messages that they have come again."""
        import ray

        for worker in self._working.values():
            ray.kill(worker)
