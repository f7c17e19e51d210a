"""Drives a training run with Ray Train: in the caller's process, or as a job on a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eksml.errors import RunCancelled, RunFailed
from eksml.runs import ErrorRecord
from eksml.runs.driver import Attempt
from eksml.storage import URI, arrow_filesystem
from eksml.training import incarnation, standby
from eksml.training.data import datasets_of
from eksml.training.job import TrainJob
from eksml.training.ray_private import address_for_train_actors
from eksml.training.restarts import Restarts
from eksml.training.worker import Assignment, run_worker

_HEALTH_CHECK = "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"


def drive(
    run: URI,
    function: Callable[..., Any],
    config: Mapping[str, Any],
    job: TrainJob,
    data: Mapping[str, Any],
) -> None:
    """Train to the end, or to what ends it; leaves everything in the run's folder.

    Raises:
        RunFailed: The function failed, or its workers did too often. The user's traceback first.
        RunCancelled: It was asked to stop.
        Fenced: Another process took the run over.
    """
    with Attempt(run) as attempt:
        before = incarnation.newest(run)
        try:
            result = _fit(attempt, function, config, job, data)
        except Exception as error:
            raise _explained(attempt, before, error) from error
        finally:
            restarts = max(0, incarnation.newest(run) - before - 1)
            attempt.update(restarts=attempt.record.restarts + restarts)
        if stop := attempt.stop_requested():
            raise RunCancelled(f"{run.name} was stopped at a checkpoint: {stop.stop}.")
        attempt.write_result(result)


def _fit(
    attempt: Attempt,
    function: Callable[..., Any],
    config: Mapping[str, Any],
    job: TrainJob,
    data: Mapping[str, Any],
) -> Any:
    from ray import get_runtime_context
    from ray.train import DataConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    run = attempt.run
    assignment = Assignment.of(run, attempt.number, function, config, job)
    path, filesystem = arrow_filesystem(run)
    resources = dict(job.resources)
    trainer = TorchTrainer(
        run_worker,
        train_loop_config={"assignment": assignment},
        scaling_config=ScalingConfig(
            num_workers=job.workers,
            use_gpu=resources.get("GPU", 0) > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=path,
            storage_filesystem=filesystem,
            # Restarts decides; Ray Train only obeys
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[Restarts(run, job.max_failures).callback()],
            logging_config=LoggingConfig(log_level="WARNING"),
            worker_runtime_env=standby.runtime_env(
                f"{run}/{attempt.number}", resources, get_runtime_context().runtime_env
            ),
        ),
        datasets=datasets_of(data),
        dataset_config=DataConfig(execution_options=_ordered()),
    )
    with address_for_train_actors(), _watched(job.workers):
        return trainer.fit().return_value


@contextlib.contextmanager
def _watched(workers: int) -> Iterator[None]:
    """A killed worker is noticed within a fifth of a second, or within as many hundredths as there
    are workers: each is asked that often. Ray's default is 2 s."""
    if _HEALTH_CHECK in os.environ:
        yield
        return
    os.environ[_HEALTH_CHECK] = str(max(0.2, workers / 100))
    try:
        yield
    finally:
        del os.environ[_HEALTH_CHECK]


def _ordered() -> Any:
    """Blocks in their order: without it a resume could not find its place in the data."""
    from ray.data import ExecutionOptions

    return ExecutionOptions(preserve_order=True)


def _explained(attempt: Attempt, before: int, error: Exception) -> Exception:
    """The error as its user should see it: their own exception, not the layers around it."""
    if stop := attempt.stop_requested():
        return RunCancelled(f"{attempt.run.name} was stopped: {stop.stop}.")
    newest = incarnation.newest(attempt.run)
    root = incarnation.read_failures(attempt.run, newest).root if newest > before else None
    if root is None:
        return RunFailed(f"{attempt.run.name} failed: {_innermost(error)}")
    attempt.fail(root)
    return RunFailed(f"{root.traceback}\n\n{attempt.run.name} failed on rank {root.rank}.")


def _innermost(error: Exception) -> str:
    """What Ray Train's error is about."""
    cause = getattr(error, "controller_failure", None) or error
    return str(ErrorRecord.of(cause).message)
