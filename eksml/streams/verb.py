"""``eksml.stream``: check everything, then drive it here or send the driver to a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml import env
from eksml.errors import InvalidSpec, Problem
from eksml.runs import Run
from eksml.runs.begin import begin_run
from eksml.runs.call import check_call, pack
from eksml.runs.connect import target_of
from eksml.runs.driver import check_free, create
from eksml.runs.record import name_problem
from eksml.storage import URI
from eksml.streams.check import examine
from eksml.streams.graph import Graph, Stream
from eksml.streams.job import StreamJob
from eksml.streams.operators.ends import SinkStep, SourceStep
from eksml.streams.operators.infer import Infer
from eksml.streams.sinks.base import Sink

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.cluster import Cluster

MODULE = "eksml.streams"


def stream(
    graph: Stream | Sequence[Stream],
    *,
    storage: str | Path | URI | None = None,
    name: str | None = None,
    cluster: Cluster | Running | str | Path | None = None,
    parallelism: int = 1,
    checkpoint_every_s: float = 10.0,
    dead_letters: Stream | Sink | None = None,
    tries: int = 3,
    max_failures: int = 10,
    state_memory: int | str = "2Gi",
    savepoint: str | Path | URI | None = None,
    working_dir: str | Path | None = None,
    deadline_s: float | None = None,
    wait: bool = True,
) -> Run:
    """Process events for as long as they come; effects happen once, whatever is killed.

    >>> import eksml.streams as streams                                # doctest: +SKIP
    >>> run = eksml.stream(
    ...     streams.files("s3://bucket/clicks", format="jsonl", follow=True)
    ...     .key_by("user").window(streams.tumbling("1m"), {"clicks": "count"})
    ...     .to(streams.files("s3://bucket/counts")),
    ...     storage="s3://bucket/streams", wait=False)

    A call with the name of a run that was stopped, failed or killed goes on from its last
    checkpoint, with the ``parallelism`` of the new call.

    Args:
        graph: A stream that ends with ``.to(…)``, or several of them.
        storage: Folder or ``s3://bucket/prefix`` for the run; EKSML_STORAGE or ``~/.eksml/runs``.
        name: The run's; made up unless given.
        cluster: Where to work: a cluster that is up (its specification, YAML file, name or Jobs
            API address). None: in this process, on the running Ray or one that it starts.
        parallelism: Workers that share the keys, a CPU each.
        checkpoint_every_s: Seconds between checkpoints.
        dead_letters: Sink for events on which a function fails ``tries`` times, with the reason.
            None: such an event ends the run.
        tries: How often a function is tried on an event.
        max_failures: Failures in a row without a new checkpoint between them that are survived;
            -1 for any number.
        state_memory: How much memory the state in one task may take, about: bytes, or such as
            ``"512Mi"``. What has not been needed for longest goes to the local disk (TMPDIR), which
            has to hold the rest; a worker has a task for each stage between two ``key_by``.
        savepoint: Begin a new run from this savepoint (``eksml.streams.savepoint``); its state
            goes to the steps of the same names.
        working_dir: Folder to take along to a cluster, as the tasks' working directory.
        deadline_s: Seconds after which the run stops at a checkpoint.
        wait: Follow it to its end. Ctrl-C stops a run in this process at a checkpoint.

    Returns:
        The run; with ``wait``, one that has succeeded: all sources ended, or it was drained.

    Raises:
        InvalidSpec: The graph or arguments are wrong; says all that is, by the steps' names.
        CallError: A function cannot travel; names the variable that is to blame.
        NotFound, AccessDenied, StorageUnavailable: The storage cannot be used.
        ClusterNotUp, DoesNotFit: The cluster is not there, or can never place the tasks.
        RunNameInUse: A run of that name is going on, or has succeeded.
        RunFailed, RunCancelled, RunInterrupted: How it ended, with ``wait``.
    """
    checked, job, root, letters, begin = _checked(
        graph,
        name,
        env.STORAGE() if storage is None else storage,
        dead_letters,
        savepoint,
        parallelism=parallelism,
        checkpoint_every_s=checkpoint_every_s,
        tries=tries,
        max_failures=max_failures,
        state_memory=state_memory,
        deadline_s=deadline_s,
    )
    from eksml.streams.engine import drive

    more: dict[str, Any] = {"dead_letters": letters, "savepoint": begin}
    check_call(drive, {"graph": checked, "more": more})
    root.check_writable()
    if name is not None:
        check_free(root / name)  # before seconds are spent on starting Ray
    _check_state(checked, root / name if name else None, begin)
    target = target_of(job.demand(_models(checked)), cluster)
    call = None
    if target is not None:
        call = pack(drive, {"graph": checked, "more": more}, root, working_dir=working_dir)
    run = create(
        root,
        name,
        verb="stream",
        entry=" → ".join(step.name for step in checked.steps),
        spec={"job": job.model_dump(), "call": str(call) if call else None},
        cluster=target.name if target else None,
        deadline_s=job.deadline_s,
    )
    return begin_run(
        run, lambda: drive(run, checked, job, **more), target, module=MODULE, wait=wait
    )


def _checked(
    graph: Any, name: Any, storage: Any, dead_letters: Any, savepoint: Any, **fields: Any
) -> tuple[Graph, StreamJob, URI, Sink | None, URI | None]:
    """Everything that was asked, or all problems of the call at once."""
    checked, problems = examine(graph)
    if name is not None and (problem := name_problem(name)):
        problems.append(problem)
    job = root = begin = None
    try:
        job = StreamJob(**fields)
    except InvalidSpec as error:
        problems += error.problems
    try:
        root = URI.parse(storage)
        begin = None if savepoint is None else URI.parse(savepoint)
    except InvalidSpec as error:
        problems += error.problems
    letters = dead_letters.node.spec.endpoint if _is_end(dead_letters) else dead_letters
    if letters is not None:
        problems += [
            Problem(f"dead_letters.{each.path}", each.message, each.remedy)
            for each in SinkStep(letters).problems()
        ]
    if problems or job is None or root is None:
        raise InvalidSpec(problems, "eksml.stream")
    return checked, job, root, letters, begin


def _is_end(value: Any) -> bool:
    return isinstance(value, Stream) and isinstance(value.node.spec, SourceStep)


def _models(graph: Graph) -> tuple[dict[str, float], ...]:
    """What each actor of ``infer`` takes."""
    return tuple(
        step.spec.resources()
        for step in graph.steps
        if isinstance(step.spec, Infer)
        for _ in range(step.spec.replicas)
    )


def _check_state(graph: Graph, run: URI | None, savepoint: URI | None) -> None:
    """State that a checkpoint holds must have a step that takes it up.

    Raises:
        InvalidSpec: Some has none; names the steps.
    """
    from eksml.streams import checkpoints

    meta = checkpoints.newest(run) if run is not None else None
    if meta is None and savepoint is not None:
        meta = checkpoints.read(savepoint)
    if meta is None:
        return
    kinds = {step.name: step.spec.kind for step in graph.steps}
    wanted = {name: meta["steps"].get(name) for name in (*meta["state"], *meta["positions"])}
    problems = [
        Problem(
            name,
            f"the checkpoint has state of a step {name!r} ({kind}), and the graph has "
            + (f"{name!r} as {kinds[name]}." if name in kinds else "no such step."),
            "Give the step its old name, or begin a run of another name.",
        )
        for name, kind in wanted.items()
        if kinds.get(name) != kind
    ]
    if problems:
        raise InvalidSpec(problems, "eksml.stream")
