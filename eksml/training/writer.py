"""Writes checkpoints while training goes on: copy out of the way, then a background thread.

At most one checkpoint is in flight, so one buffer beside the state itself is all the memory that
it takes, also while storage is down. Each rank writes its share of the replicated tensors; the
first rank commits when all have written, and all ranks learn how it ended.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import (
    AlreadyExists,
    CheckpointError,
    Damaged,
    EksmlError,
    StorageError,
    StorageUnavailable,
)
from eksml.storage import URI, Part, commit, retain, verify, write_part
from eksml.training.checkpoints import FOLDER, FORMAT, OUTLINE, folder_of, part_name
from eksml.training.rendezvous import Rendezvous
from eksml.training.snapshot import Snapshot
from eksml.training.state import flatten

if TYPE_CHECKING:
    import torch

_SLACK_S = 60.0
"""Beyond the time a rank may try: for a slower rank to finish."""
_LAST_S = 86_400.0
"""Likewise for the last checkpoint: ranks may take very differently long after their last step."""
_OWN_BYTES = 1 << 16
"""Room for a rank's random state and position."""


@dataclass(frozen=True)
class Job:
    """What is in flight."""

    step: int
    at_s: float
    """When that step had been reached, seconds since the epoch."""
    outline: Any
    own: Any
    last: bool
    """Committed only once the training function has returned, together with its result."""


class Writer:
    """The checkpoints of one rank. ``start``, ``busy``, ``finish`` belong to the training thread.

    Args:
        keep: Committed checkpoints that stay; older ones are deleted.
        give_up_s: How long one checkpoint is tried again while storage does not answer.
        check_finite: Refuse to commit NaN and infinity.
        before_commit: Called before each commit; raises Fenced if a newer incarnation owns the run.
        committed: Told the step and when it had been reached, on the first rank, in the background.
    """

    def __init__(
        self,
        run: URI,
        ranks: Rendezvous,
        *,
        keep: int,
        give_up_s: float,
        check_finite: bool,
        before_commit: Callable[[], None],
        committed: Callable[[int, float], None],
    ) -> None:
        self.run = run
        self.ranks = ranks
        self.keep = keep
        self.give_up_s = give_up_s
        self.check_finite = check_finite
        self.before_commit = before_commit
        self.committed = committed
        self.snapshot = Snapshot()
        self._pool = ThreadPoolExecutor(1, "eksml-checkpoint")
        self._flight: Future[None] | None = None
        self._stop = threading.Event()
        self._sealed = threading.Event()
        self._result: Any = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is in flight."""
        return self._flight is not None and not self._flight.done()

    @property
    def failed(self) -> bool:
        """Whether the last checkpoint failed; ``finish`` raises why."""
        done = self._flight is not None and self._flight.done()
        return done and self._flight is not None and self._flight.exception() is not None

    def reserve(self, state: Mapping[str, Any]) -> None:
        """Prepare the buffer in the background, so that the first copy is as short as the others.

        Call it after the first step: optimizers have no state before.
        """
        _, tensors = flatten(dict(state))
        size = sum(tensor.nbytes for tensor in self._share(tensors).values())
        self._flight = self._pool.submit(self.snapshot.reserve, size + _OWN_BYTES)

    def start(
        self, step: int, state: Mapping[str, Any], own: Mapping[str, Any], last: bool = False
    ) -> None:
        """Copy ``state`` and ``own`` as they are now and write them in the background.

        Args:
            step: Steps done.
            state: Name to ``state_dict``, equal on every rank.
            own: This rank's random state and position in the data.
            last: There are no more steps; commits when ``seal`` is called.

        Raises:
            UnsupportedState: Something cannot be stored without pickle.
            CheckpointError, StorageError: The checkpoint before this one failed.
        """
        self.finish()
        outline, tensors = flatten(dict(state))
        mine = self._share(tensors)
        own_outline, own_tensors = flatten(dict(own), f"rank-{self.ranks.rank:05d}")
        self.snapshot.take({**mine, **own_tensors})
        job = Job(step, time.time(), outline, own_outline, last)
        self._flight = self._pool.submit(self._write, job)

    def finish(self) -> None:
        """Wait for the checkpoint in flight.

        Raises:
            NonFiniteState: It held NaN or infinity.
            Fenced: A newer incarnation owns the run.
            StorageError: Storage did not answer for ``give_up_s``.
        """
        if self._flight is not None:
            flight, self._flight = self._flight, None
            flight.result()

    def seal(self, result: Any) -> None:
        """The training function returned ``result`` (JSON): commit the last checkpoint with it.

        A run that is killed before this does the work since the checkpoint before again; one that
        is killed after it has its result. Raises as ``finish``.
        """
        self._result = result
        self._sealed.set()
        self.finish()

    def close(self) -> None:
        """Stop trying and end the thread; what is in flight is not waited for."""
        self._stop.set()
        self._sealed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _share(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """This rank's tensors: largest first to the rank with the fewest bytes. The same on all."""
        loads = [0] * self.ranks.world
        mine: dict[str, torch.Tensor] = {}
        for name in sorted(tensors, key=lambda name: (-tensors[name].nbytes, name)):
            rank = loads.index(min(loads))
            loads[rank] += tensors[name].nbytes
            if rank == self.ranks.rank:
                mine[name] = tensors[name]
        return mine

    def _write(self, job: Job) -> None:
        topic = f"checkpoint/{job.step}"
        folder = folder_of(self.run, job.step)
        failure: EksmlError | None = None
        part = None
        try:
            if self.check_finite:
                self.snapshot.check_finite()
            name = part_name(self.ranks.rank)
            part = self._patiently(lambda: write_part(folder, name, self.snapshot.views()))
        except EksmlError as error:
            failure = error
        if job.last:
            self._sealed.wait()
            if self._stop.is_set():
                return
        mine = {"error": _told(failure), "part": asdict(part) if part else None, "own": job.own}
        limit_s = _LAST_S if job.last else self.give_up_s + _SLACK_S
        gathered = self.ranks.gather(topic, mine, limit_s)
        if gathered is not None:
            failure = failure or self._try_commit(folder, job, gathered)
        told = self.ranks.broadcast(f"{topic}/end", _told(failure), 2 * limit_s)
        if failure is not None:
            raise failure
        if told is not None:
            raise CheckpointError(f"Checkpoint {job.step} failed on another rank: {told}")

    def _try_commit(self, folder: URI, job: Job, gathered: list[Any]) -> EksmlError | None:
        errors = [f"rank {rank}: {e['error']}" for rank, e in enumerate(gathered) if e["error"]]
        if errors:
            return CheckpointError("; ".join(errors))
        try:
            parts = [Part(**each["part"]) for each in gathered]
            own = {str(rank): each["own"] for rank, each in enumerate(gathered)}
            text = json.dumps({"state": job.outline, "ranks": own}).encode()
            parts.append(self._patiently(lambda: write_part(folder, OUTLINE, text)))
            self._patiently(lambda: self._commit(folder, job, parts))
            self.committed(job.step, job.at_s)
        except EksmlError as error:
            return error
        # The next checkpoint deletes what stays now
        with contextlib.suppress(StorageError):
            retain(self.run / FOLDER, self.keep)
        return None

    def _commit(self, folder: URI, job: Job, parts: list[Part]) -> None:
        self.before_commit()
        meta = {"format": FORMAT, "step": job.step, "world": self.ranks.world, "at_s": job.at_s}
        if job.last:
            meta["result"] = self._result
        try:
            commit(folder, parts, meta)
        except AlreadyExists:
            # An earlier incarnation got this far. Its set is as good as ours, unless it is damaged
            # and that is why we came by here again.
            try:
                verify(folder)
            except Damaged:
                (folder / "manifest.json").delete()
                commit(folder, parts, meta)

    def _patiently(self, work: Callable[[], Any]) -> Any:
        """Try again while storage does not answer, up to ``give_up_s``."""
        end_s = time.monotonic() + self.give_up_s
        pause_s = 0.5
        while True:
            try:
                return work()
            except StorageUnavailable as error:
                if time.monotonic() + pause_s > end_s or self._stop.wait(pause_s):
                    raise StorageUnavailable(
                        f"No checkpoint could be written for {self.give_up_s:.0f} s: {error} "
                        "Training stopped rather than go on without one; the same call resumes it."
                    ) from error
                pause_s = min(2 * pause_s, 10.0)


def _told(error: EksmlError | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"
