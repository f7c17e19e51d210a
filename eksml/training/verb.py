"""``eksml.train``: check everything, then train here or send the driver to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml import env
from eksml.errors import CallError, InvalidSpec, Problem
from eksml.runs import Run
from eksml.runs.begin import begin_run
from eksml.runs.call import check_call, entry_name, pack
from eksml.runs.connect import target_of
from eksml.runs.driver import check_free, create
from eksml.runs.record import name_problem
from eksml.storage import URI
from eksml.training.data import named
from eksml.training.job import Checkpointing, TrainJob

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.cluster import Cluster

MODULE = "eksml.training"


def train(
    fn: Callable[..., Any],
    *,
    config: Mapping[str, Any] | None = None,
    data: Any = None,
    workers: int = 1,
    resources: Mapping[str, float] | None = None,
    storage: str | Path | URI | None = None,
    name: str | None = None,
    cluster: Cluster | Running | str | Path | None = None,
    checkpoint: Checkpointing | Mapping[str, Any] | None = None,
    max_failures: int = 3,
    seed: int = 0,
    working_dir: str | Path | None = None,
    deadline_s: float | None = None,
    budget_node_hours: float | None = None,
    wait: bool = True,
) -> Run:
    """Train a PyTorch function on one or many workers; survives kills of any of them.

    >>> run = eksml.train(fit, config={"lr": 1e-3}, workers=2)        # doctest: +SKIP
    >>> run.metrics().loss.plot()                                    # doctest: +SKIP

    A call with the name of a run that failed, was cancelled or was killed goes on from its last
    checkpoint; with the same workers the result equals that of a run that was never interrupted.

    Args:
        fn: ``fn(ctx)``, see :class:`eksml.Context`; or any function for ``ray.train``, with one
            parameter (the config) or none. Runs on every worker.
        config: Handed to the function. Must not hold AWS keys.
        data: A Ray dataset, a path (``s3://bucket/train.parquet``), a function that gives a
            dataset, or a dictionary of these by name. See ``ctx.batches``.
        workers: Processes that train together.
        resources: Of each worker, by Ray's names; ``{"CPU": 1}`` unless given.
        storage: Folder or ``s3://bucket/prefix`` for the run; EKSML_STORAGE or ``~/.eksml/runs``.
        name: The run's; made up unless given.
        cluster: Where to train: a cluster that is up (its specification, YAML file, name or Jobs
            API address). None: in this process, on the running Ray or one that it starts; the run
            ends with the process then.
        checkpoint: When checkpoints are taken: ``Checkpointing(every_steps=100)``, or its fields
            as a dictionary.
        max_failures: Failures in a row, without a new checkpoint between them, that are survived;
            -1 for any number. Announced spot reclaims do not count.
        seed: Seeds torch, numpy and Python on each worker, plus its rank.
        working_dir: Folder to take along to a cluster, as the workers' working directory.
        deadline_s: Seconds after which the run stops at a checkpoint.
        budget_node_hours: Node-hours after which it stops at a checkpoint.
        wait: Follow it to its end, with a progress bar. Ctrl-C stops a run in this process at a
            checkpoint; one on a cluster goes on.

    Returns:
        The run; with ``wait``, one that has succeeded.

    Raises:
        InvalidSpec: Arguments are wrong; says all that is.
        CallError: The function cannot travel; names the variable that is to blame.
        NotFound, AccessDenied, StorageUnavailable: The storage cannot be used.
        ClusterNotUp, DoesNotFit: The cluster is not there, or can never place the workers.
        RunNameInUse: A run of that name is going on, or has succeeded.
        RunFailed, RunCancelled, RunInterrupted: How it ended, with ``wait``.
    """
    job, given, root = _checked(
        fn,
        config,
        name,
        data,
        env.STORAGE() if storage is None else storage,
        workers=workers,
        resources={"CPU": 1.0} if resources is None else resources,
        checkpoint=Checkpointing() if checkpoint is None else checkpoint,
        max_failures=max_failures,
        seed=seed,
        deadline_s=deadline_s,
        budget_node_hours=budget_node_hours,
    )
    settings = dict(config or {})
    check_call(fn, settings)
    root.check_writable()
    if name is not None:
        check_free(root / name)  # before seconds are spent on starting Ray
    target = target_of(job.demand(reads_data=bool(given)), cluster)
    call = None
    if target is not None:
        call = pack(
            fn, {"config": settings, "data": _portable(given)}, root, working_dir=working_dir
        )
    run = create(
        root,
        name,
        verb="train",
        entry=entry_name(fn),
        config=settings,
        spec={"job": job.model_dump(), "call": str(call) if call else None},
        cluster=target.name if target else None,
        deadline_s=job.deadline_s,
        budget_node_hours=job.budget_node_hours,
    )

    def drive() -> None:
        from eksml.training import engine

        engine.drive(run, fn, settings, job, given)

    return begin_run(run, drive, target, module=MODULE, wait=wait)


def _checked(
    fn: Any, config: Any, name: Any, data: Any, storage: Any, **fields: Any
) -> tuple[TrainJob, dict[str, Any], URI]:
    """The job, its data and its storage, or all problems of the call at once."""
    problems: list[Problem] = []
    if not callable(fn):
        remedy = "Give fn(ctx), or a function for ray.train."
        problems.append(Problem("fn", f"{fn!r:.80} is not a function.", remedy))
    if not isinstance(config, Mapping | None):
        problems.append(Problem("config", f"{config!r:.80} is not a dictionary."))
    if name is not None and (problem := name_problem(name)):
        problems.append(problem)
    job, given, root = None, None, None
    try:
        job = TrainJob(**fields)
    except InvalidSpec as error:
        problems += error.problems
    try:
        given = named(data)
    except InvalidSpec as error:
        problems += error.problems
    try:
        root = URI.parse(storage)
    except InvalidSpec as error:
        problems += error.problems
    if problems or job is None or given is None or root is None:
        raise InvalidSpec(problems, "eksml.train")
    return job, given, root


def _portable(data: Mapping[str, Any]) -> dict[str, Any]:
    """Data that means the same on the cluster: paths and functions, not this Ray's datasets."""
    here = [name for name, value in data.items() if hasattr(value, "iter_batches")]
    if here:
        raise CallError(
            f"data {', '.join(here)} is a dataset of this process's Ray and cannot travel to a "
            "cluster. Give a path, or a function that builds it: data=lambda: ray.data.read_…(…)."
        )
    return dict(data)
