"""``eksml.batch``: check everything, cut the input, then compute here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from eksml import env
from eksml.batches import series
from eksml.batches.asked import Asked, checked
from eksml.batches.engine import drive
from eksml.batches.opening import opened
from eksml.batches.schedule import by_the_clock, problems_of
from eksml.batches.series import Series
from eksml.errors import InvalidSpec, Problem
from eksml.runs import Run
from eksml.runs.begin import begin_run
from eksml.runs.driver import new_name
from eksml.runs.pickling import check_picklable
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.batches.iceberg_table import IcebergTable
    from eksml.cluster import Cluster

MODULE = "eksml.batches"
Place = str | Path | URI


def batch(
    model: Any,
    data: Any,
    output: Place,
    *,
    workers: int | tuple[int, int] | None = None,
    resources: dict[str, float] | None = None,
    format: Literal["parquet", "jsonl"] = "parquet",
    keep: Sequence[str] | None = None,
    partition_by: Sequence[str] = (),
    table: IcebergTable | None = None,
    rows_per_file: int | None = None,
    max_error_share: float = 0.1,
    max_failures: int = 3,
    id_column: str | None = None,
    retry_errors: bool = False,
    since: Literal["watermark"] | None = None,
    schedule: str | None = None,
    storage: Place | None = None,
    name: str | None = None,
    cluster: Cluster | Running | str | Path | None = None,
    working_dir: str | Path | None = None,
    deadline_s: float | None = None,
    budget_node_hours: float | None = None,
    wait: bool = True,
) -> Run | Any:  # Any is Schedule: who gives no schedule need not tell the two apart
    """Compute a model over data: every row once, whatever is killed.

    >>> llm = eksml.batches.llm("Qwen/Qwen3-8B", prompt="Summarise: {text}")   # doctest: +SKIP
    >>> eksml.batch(llm, "s3://bucket/reviews", "s3://bucket/summaries")       # doctest: +SKIP

    A run that was killed, cancelled or failed goes on when it is called again by its name, and
    computes only what has no committed output. Rows that fail are in ``run.errors()`` with the
    reason; they do not stop the run unless they are too many.

    Args:
        model: ``eksml.batches.llm(…)``, ``torch_module(…)``, ``endpoint(…)``; or a class with
            ``__call__(batch)``, from a dictionary of numpy arrays to another one, or a function.
        data: Where the rows are: a file, a folder, a pattern or a list of them, local or in S3; or
            ``eksml.batches.parquet(…)`` and its like, with columns and filters.
        output: The folder for the results, empty or not there yet.
        workers: Processes that hold the model; a number or (least, most). None: one to as many as
            the cluster has room for.
        resources: Of each worker, by Ray's names. None: what the model says.
        format: Of the output's files.
        keep: Input columns that the output has beside the model's. None: all.
        partition_by: Input columns that become folders of the output.
        table: ``eksml.batches.iceberg_table(…)``, to which all files are added in one snapshot
            when the run has succeeded.
        rows_per_file: Also what is committed at once. None: chosen, see ``run.plan()``.
        max_error_share: Share of failed rows above which the run stops.
        max_failures: Times that rows may take their worker down before they count as failed.
        id_column: A column whose values have to be unique; that is checked beforehand.
        retry_errors: Try the failed rows of an ended run once more.
        since: "watermark": only files that are new or were changed since the last success. The
            name is then a series' one: each call makes a run of its own, ``<name>-000001``, … into
            ``<output>/edition=000001/``, …, or goes on with the last if that has not succeeded.
            Where nothing is new it makes none, and returns the last.
        schedule: Do not compute now, but on EKS whenever the clock says, such as "0 3 * * *".
            Takes ``since``, a name, the specification of a cluster, and a storage in S3.
        storage: Folder or ``s3://bucket/prefix`` for the run; EKSML_STORAGE or ``~/.eksml/runs``.
        name: The run's; made up unless given.
        cluster: Where to compute: a cluster that is up (its specification, YAML file, name or Jobs
            API address). None: the running Ray, or one that is started in this process.
        working_dir: Folder to take along to a cluster.
        deadline_s: Seconds after which the run stops.
        budget_node_hours: Node-hours after which it stops.
        wait: Follow it to its end, with a progress bar.

    Returns:
        The run. Its ``result()`` is the report; ``plan()`` and ``errors()`` tell the rest.
        With ``schedule`` the :class:`eksml.batches.schedule.Schedule`.

    Raises:
        InvalidSpec: Arguments, the model or the data are wrong; says all that is.
        CallError: The model cannot travel; names the variable that is to blame.
        NotFound, AccessDenied, StorageUnavailable: A place cannot be used.
        ClusterNotUp, DoesNotFit: The cluster is not there, or can never place a worker.
        RunNameInUse: A run of that name is going on or has succeeded, or the output is another
            run's or series' one.
        RunFailed, RunCancelled, RunInterrupted: How it ended, with ``wait``.
    """
    storage = env.STORAGE() if storage is None else storage
    asked = _checked(
        (model, data, output, name, storage),
        [
            *series.problems(since, name, schedule=schedule is not None),
            *problems_of(schedule, cluster, name, storage, retry_errors=retry_errors),
        ],
        workers=workers,
        resources=resources,
        format=format,
        keep=keep,
        partition_by=partition_by,
        table=table,
        rows_per_file=rows_per_file,
        max_error_share=max_error_share,
        max_failures=max_failures,
        id_column=id_column,
        deadline_s=deadline_s,
        budget_node_hours=budget_node_hours,
    )
    check_picklable(asked.model, "the model")
    if schedule is not None:
        return by_the_clock(asked, str(name), schedule, cluster, working_dir)
    asked.root.check_writable()
    if since is None:
        run = asked.root / (name or new_name("batch"))
        made, target = opened(run, asked, cluster, working_dir, retry_errors)
        return begin_run(run, lambda: drive(run, made), target, module=MODULE, wait=wait)
    editions = Series(asked.root, str(name))
    with editions.planning(asked.output):
        edition = editions.next(asked, again=retry_errors)
        if edition.is_old:
            return Run(edition.run)
        asked = replace(asked, output=edition.output)
        made, target = opened(edition.run, asked, cluster, working_dir, retry_errors, edition)
    run = edition.run
    return begin_run(run, lambda: drive(run, made), target, module=MODULE, wait=wait)


def _checked(arguments: tuple[Any, ...], known: list[Problem], **fields: Any) -> Asked:
    """The arguments, or all their problems at once, beside those that are known."""
    try:
        asked = checked(*arguments, **fields)
    except InvalidSpec as error:
        raise InvalidSpec([*error.problems, *known], error.subject) from error
    if known:
        raise InvalidSpec(known, "eksml.batch")
    return asked
