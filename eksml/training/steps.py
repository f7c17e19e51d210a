"""The step loop on one rank: when to save, when to stop, where the data stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.errors import CheckpointError, InvalidSpec, Problem
from eksml.training.agreement import STOPS, Agree, Boundaries, Notes, interval_of
from eksml.training.checkpoints import Checkpoint
from eksml.training.position import Position, position_of
from eksml.training.randomness import random_state, set_random_state
from eksml.training.reporter import Reporter
from eksml.training.writer import Writer

if TYPE_CHECKING:
    import torch

_ASK_S = 2.0
"""Seconds between questions for a spot notice; AWS gives 120 s, a drain on EKS at least 30."""


class Stopped(BaseException):
    """Ends the training function at a step that all ranks agreed on, its checkpoint committed.

    Not an Exception, so that no ``except Exception`` in the training function holds it up.
    """

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(reason, step)
        self.reason = reason
        self.step = step


class Loop:
    """What ``ctx`` does its work with. All methods belong to the training thread."""

    def __init__(
        self,
        *,
        rank: int,
        world: int,
        writer: Writer,
        reporter: Reporter,
        agree: Agree,
        preempted: Callable[[], bool],
        every_steps: int | None,
        every_s: float | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        self.rank = rank
        self.world = world
        self.writer = writer
        self.reporter = reporter
        self.agree = agree
        self.preempted = preempted
        self.every_steps = every_steps
        self.every_s = every_s
        self.step = checkpoint.step if checkpoint else 0
        self._checkpoint = checkpoint
        self._objects: Mapping[str, Any] = {}
        self._saved_step = self.step
        self._used = False
        self._values: dict[str, Any] = {}

    def register(self, objects: Mapping[str, Any]) -> Checkpoint | None:
        """Take what belongs to a checkpoint; gives the checkpoint to go on from, once."""
        self._objects = objects
        return self._checkpoint

    def log(self, values: Mapping[str, Any]) -> None:
        """Keep values of the present step until it is over."""
        if self.rank == 0:
            self._values.update(values)

    def steps(
        self, batches: Iterable[Any], total: int | None, device: torch.device
    ) -> Iterator[tuple[int, Any]]:
        """See ``Context.steps``."""
        if self._used:
            raise InvalidSpec(
                [Problem("ctx.steps", "was called twice.", "Use one loop; validate inside it.")],
                "the training function",
            )
        self._used = True
        if self._checkpoint is not None and not self._objects:
            raise CheckpointError(
                f"The run goes on from step {self._checkpoint.step}, but nothing was restored. "
                "Call ctx.restore(model=model, optimizer=opt) before ctx.steps."
            )
        one_pass = total is None
        total = _length(batches) if total is None else total
        position = position_of(batches)
        own = self._own_state()
        position.start(own["position"] if own else None)
        if own:
            # After the data has started: starting it draws random numbers of its own
            set_random_state(own["random"])
        self._begin(total)
        while total is None or self.step < total:
            try:
                batch = position.next(once=one_pass)
            except StopIteration:
                break
            yield self.step, _moved(batch, device)
            self._after(batch, position)
        self._save(position, last=True)

    def seal(self, result: Any) -> None:
        """The training function returned; raises what went wrong with the last checkpoint."""
        self.writer.seal(result)

    def _own_state(self) -> Mapping[str, Any] | None:
        """This rank's random state and position, if they still mean the same."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return None
        if checkpoint.world != self.world:
            print(
                f"eksml: the checkpoint was taken by {checkpoint.world} workers and there are "
                f"{self.world} now: the data begins anew, and some of this epoch comes again."
            )
            return None
        return checkpoint.ranks[self.rank]

    def _begin(self, total: int | None) -> None:
        now_s = time.monotonic()
        self._boundaries = Boundaries(self.step, self.every_steps, total)
        self._first_step, self._total = self.step, total
        self._due = False
        self._saved_s = self._asked_s = self._compared_s = now_s
        self._compared_step = self.step
        self.reporter.loop_started(self.step, total)

    def _after(self, batch: Any, position: Position) -> None:
        """The step is over: record it; compare notes and act on them where all ranks do."""
        step = self.step
        self.step = step + 1
        if self.rank == 0:
            self.reporter.stepped(step, self._values, _samples(batch) * self.world)
            self._values = {}
        if self.step == self._first_step + 1 and self._objects:
            self.writer.reserve(self._state())
        if self._boundaries.reached(self.step):
            self._boundary(position)

    def _boundary(self, position: Position) -> None:
        notes = self.agree(self._notes())
        self._boundaries.agreed(self.step, notes.interval)
        if notes.failed:
            self.writer.finish()
            raise CheckpointError("A checkpoint failed on another rank; its log says why.")
        stop = STOPS[notes.stop]
        if notes.ask and self.preempted():
            stop = "preempted"
        self._due = self._due or bool(notes.save) or self._boundaries.due(self.step)
        if stop and self.step != self._total:
            self._save(position)
            self.writer.finish()
            raise Stopped(stop, self.step)
        if self._due and not notes.busy and self.step != self._total:
            self._save(position)

    def _notes(self) -> Notes:
        """This rank's notes. Clocks are the first rank's only."""
        busy, failed = int(self.writer.busy), int(self.writer.failed)
        if self.rank > 0:
            return Notes(busy=busy, failed=failed)
        now_s = time.monotonic()
        interval = interval_of(self.step - self._compared_step, now_s - self._compared_s)
        self._compared_step, self._compared_s = self.step, now_s
        save = self.every_s is not None and now_s - self._saved_s >= self.every_s
        ask = now_s - self._asked_s >= _ASK_S
        if ask:
            self._asked_s = now_s
        stop = STOPS.index(self.reporter.stop or "")
        return Notes(stop, int(save), busy, failed, int(ask), interval)

    def _save(self, position: Position, last: bool = False) -> None:
        """Start a checkpoint of the present step, unless it has one or there is nothing in it."""
        self._due = False
        self._saved_s = time.monotonic()
        if not self._objects or self._saved_step == self.step:
            return
        self._saved_step = self.step
        own = {"random": random_state(), "position": position.state()}
        self.writer.start(self.step, self._state(), own, last)

    def _state(self) -> dict[str, Any]:
        return {name: item.state_dict() for name, item in self._objects.items()}


def _length(batches: Iterable[Any]) -> int | None:
    """Steps of one pass, where that is known."""
    try:
        return len(batches)  # type: ignore[arg-type]
    except TypeError:
        return None


def _samples(batch: Any) -> int:
    """Rows in a batch: the first dimension of the first array in it."""
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)):
        return _samples(batch[0]) if batch else 0
    shape: Any = getattr(batch, "shape", ())
    return int(shape[0]) if len(shape) else 1


def _moved(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on ``device``."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, Mapping):
        return {key: _moved(item, device) for key, item in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)([_moved(item, device) for item in batch])
    return batch.to(device, non_blocking=True) if hasattr(batch, "to") else batch
