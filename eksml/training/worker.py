"""What runs in each worker process of Ray Train: the user's function inside its surroundings."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eksml.errors import StorageError, UnsupportedState
from eksml.runs import ErrorRecord
from eksml.runs.control import read_stop
from eksml.runs.journal import Journal, source_name
from eksml.runs.tee import tee
from eksml.storage import URI, sweep
from eksml.training import incarnation
from eksml.training.agreement import agreement
from eksml.training.checkpoints import FOLDER, Checkpoint, folder_of, load, newest_good
from eksml.training.context import Context
from eksml.training.incarnation import Failure
from eksml.training.job import TrainJob
from eksml.training.randomness import seed_all
from eksml.training.rendezvous import Rendezvous
from eksml.training.reporter import Reporter
from eksml.training.steps import Loop, Stopped
from eksml.training.writer import Writer

Function = Callable[..., Any]
_COLLATERAL = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
_MAX_RESULT = 10_000
_POLL_S = 2.0
_ABANDONED_S = 3600.0


@dataclass(frozen=True)
class Assignment:
    """What the driver gives every worker."""

    run: URI
    attempt: int
    call: bytes
    """The function and its configuration, pickled: Ray's controller passes them on unopened, since
    it lacks the modules that they may need."""
    paths: tuple[str, ...]
    """The driver's ``sys.path``, for modules that lie on the same machine."""
    job: TrainJob

    @classmethod
    def of(
        cls, run: URI, attempt: int, function: Function, config: Mapping[str, Any], job: TrainJob
    ) -> Assignment:
        """Pack the function for the workers."""
        import cloudpickle

        paths = tuple(os.path.abspath(path) for path in sys.path)
        return cls(run, attempt, cloudpickle.dumps((function, dict(config))), paths, job)

    def open(self) -> tuple[Function, dict[str, Any]]:
        """The function and its configuration, in the worker."""
        import cloudpickle

        sys.path += [path for path in self.paths if path not in sys.path]
        function, config = cloudpickle.loads(self.call)
        return function, config


def takes_context(function: Function) -> bool:
    """Whether the function is written for eksml: its one parameter is ``ctx``, or a ``Context``."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        return False
    first = parameters[0]
    return first.name == "ctx" or first.annotation in (Context, "Context", "eksml.Context")


def run_worker(loop_config: dict[str, Any]) -> Any:
    """The ``train_loop_per_worker`` that Ray Train is given. Returns the function's result as JSON.

    Args:
        loop_config: ``{"assignment": Assignment}``.

    Raises:
        Exception: The function's own, after it was written down for the driver.
    """
    import ray.train

    assignment: Assignment = loop_config["assignment"]
    where = ray.train.get_context()
    rank, world = where.get_world_rank(), where.get_world_size()
    number = _incarnation(assignment, rank, world)
    logs = Journal(assignment.run / "logs", source_name(assignment.attempt, number, f"rank{rank}"))
    with logs, tee(logs):
        try:
            function, config = assignment.open()
            if takes_context(function):
                return _run_with_context(assignment, function, config, where, number)
            return _run_plain(assignment, function, config, where, number)
        except Stopped as stopped:
            return _stopped(assignment, stopped, rank, number)
        except Exception as error:
            kind = "collateral" if is_collateral(error) else "user"
            _note_failure(assignment, number, rank, kind, error)
            raise


def _incarnation(assignment: Assignment, rank: int, world: int) -> int:
    from ray.train.collective import broadcast_from_rank_zero

    claimed = incarnation.claim(assignment.run, assignment.attempt, world) if rank == 0 else None
    number: int = broadcast_from_rank_zero(claimed)
    return number


def _run_plain(
    assignment: Assignment, function: Function, config: dict[str, Any], where: Any, number: int
) -> Any:
    """A function that uses ``ray.train`` itself."""
    _exit_on_stop(assignment.run)
    with _reporting(assignment, where, number, 0) as reporter:
        reporter.loop_started(0, None)
        arguments = [config] if inspect.signature(function).parameters else []
        return as_result(function(*arguments))


def _exit_on_stop(run: URI) -> None:
    """End this process when the run is asked to stop: the function has no step to stop at. What it
    reported to ``ray.train`` stays."""

    def watch() -> None:
        while True:
            time.sleep(_POLL_S)
            with contextlib.suppress(StorageError):
                if read_stop(run):
                    os._exit(0)

    threading.Thread(target=watch, name="eksml-stop", daemon=True).start()


def _run_with_context(
    assignment: Assignment, function: Function, config: dict[str, Any], where: Any, number: int
) -> Any:
    """A function that is written for ``ctx``."""
    import ray.train

    run, job = assignment.run, assignment.job
    rank, world = where.get_world_rank(), where.get_world_size()
    seed_all(job.seed + rank)
    checkpoint = _restore_point(run, rank)
    if checkpoint is not None and checkpoint.done:
        return checkpoint.result
    restored_step = checkpoint.step if checkpoint else 0
    with _reporting(assignment, where, number, restored_step) as reporter:

        def before_commit() -> None:
            incarnation.check_owner(run, number)
            reporter.flush()

        writer = Writer(
            run,
            Rendezvous(rank, world),
            keep=job.checkpoint.keep,
            give_up_s=job.checkpoint.give_up_s,
            check_finite=job.checkpoint.check_finite,
            before_commit=before_commit,
            committed=reporter.committed,
        )
        loop = Loop(
            rank=rank,
            world=world,
            writer=writer,
            reporter=reporter,
            agree=agreement(world),
            preempted=lambda: ray.train.get_preemption_info() is not None,
            every_steps=job.checkpoint.every_steps,
            every_s=job.checkpoint.seconds,
            checkpoint=checkpoint,
        )
        ctx = Context(
            config=config,
            rank=rank,
            world_size=world,
            local_rank=where.get_local_rank(),
            seed=job.seed,
            loop=loop,
        )
        try:
            result = as_result(function(ctx))
            loop.seal(result)
            return result
        finally:
            writer.close()


@contextlib.contextmanager
def _reporting(
    assignment: Assignment, where: Any, number: int, restored_step: int
) -> Iterator[Reporter]:
    rank, world = where.get_world_rank(), where.get_world_size()
    reporter = Reporter(assignment.run, assignment.attempt, number, rank, restored_step)
    reporter.started(restored_step=restored_step, nodes=_nodes(where), workers=world)
    try:
        yield reporter
    except BaseException:
        # The error on its way matters more than what the journals could not write
        with contextlib.suppress(StorageError):
            reporter.close("stopping")
        raise
    reporter.close("done")


def _restore_point(run: URI, rank: int) -> Checkpoint | None:
    """The checkpoint that all ranks go on from: the first rank's choice."""
    from ray.train.collective import broadcast_from_rank_zero

    def own(other: int) -> bool:
        return other == rank

    if rank == 0:
        # What killed writers left; those that still write have nothing older
        with contextlib.suppress(StorageError):
            sweep(run / FOLDER, older_than_s=_ABANDONED_S)
        checkpoint = newest_good(run, _say, own)
        broadcast_from_rank_zero(checkpoint.step if checkpoint else None)
        return checkpoint
    step = broadcast_from_rank_zero(None)
    return None if step is None else load(folder_of(run, step), own)


def _say(text: str) -> None:
    print(f"eksml: {text}", file=sys.stderr, flush=True)


def _stopped(assignment: Assignment, stopped: Stopped, rank: int, number: int) -> None:
    """A stop that was wished for ends the function as if it had returned; a reclaim must not, since
    Ray Train takes a group that returned for one that is done."""
    if rank == 0:
        _say(f"stopped after step {stopped.step}: {stopped.reason}; its checkpoint is committed")
    if stopped.reason != "preempted":
        return
    error = RuntimeError(f"stopped at step {stopped.step} for a spot notice")
    _note_failure(assignment, number, rank, "preempted", error)
    raise error


def _note_failure(
    assignment: Assignment, number: int, rank: int, kind: str, error: Exception
) -> None:
    record = ErrorRecord.of(error, rank=rank)
    with contextlib.suppress(StorageError):
        incarnation.write_failure(assignment.run, number, rank, Failure(kind=kind, error=record))


def is_collateral(error: Exception) -> bool:
    """Whether this is what a rank sees when another one dies in the middle of a collective, or when
    Ray loses one of its own processes."""
    import torch.distributed as dist
    from ray.exceptions import RayError, RayTaskError

    if isinstance(error, RayError):
        return not isinstance(error, RayTaskError)
    if isinstance(error.__cause__, dist.DistError):  # a checkpoint for which a rank was missing
        return True
    text = str(error).lower()
    return isinstance(error, (dist.DistError, RuntimeError)) and any(
        mark in text for mark in _COLLATERAL
    )


def as_result(value: Any, path: str = "result") -> Any:
    """What a training function returned, as JSON.

    Numbers, texts, lists and dictionaries stay; small arrays and tensors become lists.

    Raises:
        UnsupportedState: Something else is in it; the message names its path.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_result(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_result(item, f"{path}.{index}") for index, item in enumerate(value)]
    if hasattr(value, "tolist") and getattr(value, "nbytes", 0) <= 8 * _MAX_RESULT:
        return value.tolist()
    raise UnsupportedState(
        f"{path} is a {type(value).__name__}, which a run's result cannot hold. Return numbers, "
        "texts, lists and dictionaries; model weights are in run.checkpoints()."
    )


def _nodes(where: Any) -> int:
    """Nodes that the workers of this incarnation hold."""
    world, on_node = where.get_world_size(), where.get_local_world_size()
    return max(1, -(-int(world) // max(1, int(on_node))))
