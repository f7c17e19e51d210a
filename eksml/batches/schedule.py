"""Batch inference by the clock: a RayCronJob on EKS, each job of which makes the same call.

The call lies in storage, packed; a job is ``python -m eksml.batches --series <call>`` on a cluster
that comes and goes with it, and computes the next edition of the series.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml.batches.series import WATERMARK, Series
from eksml.cluster import Cluster
from eksml.cluster.preflight import Demand, preflight
from eksml.cluster.render import ray_cron_job, surroundings
from eksml.cluster.render.checked import checked
from eksml.cluster.workloads import RayCronSpec, RayJobSpec
from eksml.errors import EksmlError, InvalidSpec, Problem
from eksml.runs.call import pack, unpack
from eksml.runs.connect import connected
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends.kube.client import KubeClient
    from eksml.batches.asked import Asked

FLAG = "--series"
_YAML = (".yaml", ".yml")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """A series that computes its editions by the clock, until it is deleted."""

    name: str
    """Of the series and of the RayCronJob."""
    manifest: dict[str, Any]
    """The RayCronJob."""

    def delete(self) -> None:
        """Start no more jobs; one that runs goes with it. Runs, marks and output stay, so that a
        later schedule of that name goes on. Doing it twice is fine.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        from eksml.backends.kube.client import KubeClient
        from eksml.backends.kube.objects import Ref

        KubeClient.connect().delete(Ref.of(self.manifest))


def manifest(cluster: Cluster, name: str, schedule: str, call: URI) -> dict[str, Any]:
    """The RayCronJob as a plain dict, checked. Asks nobody.

    Args:
        cluster: What each job's cluster is to be.
        name: Of the RayCronJob, at most 36 characters.
        schedule: Minute, hour, day, month, weekday, in the operator's time zone: usually UTC.
        call: Where the packed call is.

    Raises:
        InvalidSpec: A rule of KubeRay is broken, or the cluster's operator lacks the gate.
    """
    entrypoint = f"python -m eksml.batches {FLAG} {shlex.quote(str(call))}"
    cron = RayCronSpec(schedule=schedule, job=RayJobSpec(entrypoint=entrypoint))
    made = ray_cron_job(cluster, cron)
    return checked(cluster, {**made, "metadata": {**made["metadata"], "name": name}})


def problems_of(
    schedule: str | None, cluster: Any, name: Any, storage: Any, *, retry_errors: bool
) -> Iterator[Problem]:
    """What keeps a call from being made by the clock; nothing where it is to be made now."""
    if schedule is None:
        return
    if retry_errors:
        told = "has no effect with a schedule."
        yield Problem("retry_errors", told, "Make that call once, without a schedule.")
    if not str(storage).startswith("s3://"):
        told = f"{str(storage)!r} cannot be read by the jobs' pods."
        yield Problem("storage", told, "Give a place in S3: s3://bucket/prefix.")
    try:
        found = _spec(cluster)
        manifest(
            found, name if isinstance(name, str) else "series", schedule, URI.parse("s3://any")
        )
    except InvalidSpec as error:
        yield from error.problems


def by_the_clock(
    asked: Asked, name: str, schedule: str, cluster: Any, working_dir: str | Path | None
) -> Schedule:
    """Pack the call and apply its RayCronJob, in place of an older one of that name.

    Raises:
        CallError: The model cannot travel.
        DoesNotFit: The cluster can never place a worker.
        AccessDenied, NotFound, StorageUnavailable: The storage cannot be used.
        ClusterError: Kubernetes refuses, or does not answer.
    """
    found = _spec(cluster)
    least = asked.job.workers[0] if asked.job.workers else 1
    resources = asked.job.resources or asked.model.sizing().resources
    preflight(Demand((resources,) * least, what="batch workers"), found)
    asked.root.check_writable()
    arguments = {
        "model": asked.model,
        "data": asked.source,
        "output": str(asked.output),
        "name": name,
        "since": WATERMARK,
        "table": asked.table,
        "storage": str(asked.root),
        **asked.job.model_dump(),
    }
    call = pack(compute, arguments, asked.root, working_dir=working_dir)
    made = manifest(found, name, schedule, call)
    _apply(found, made)
    return Schedule(name, made)


def run_series(call: URI) -> None:
    """What a job does: the next edition, and where one was left unfinished, that one before.

    Raises:
        EksmlError: As :func:`eksml.batch`.
    """
    opened = unpack(call)
    with connected(opened):
        opened.function(**opened.config)


def compute(*, name: str, storage: str, **arguments: Any) -> None:
    """Make the call in the Ray that is running.

    An edition that failed is tried again with its failed rows: nobody is there at night who could
    ask for it.
    """
    from eksml.batches.verb import batch

    unfinished = Series(URI.parse(storage), name).is_unfinished()
    batch(name=name, storage=storage, retry_errors=unfinished, **arguments)
    if unfinished:  # what has come since it was planned
        batch(name=name, storage=storage, **arguments)


def _spec(cluster: Any) -> Cluster:
    """The specification that is meant.

    Raises:
        InvalidSpec: There is none, or it has no clock.
    """
    if isinstance(cluster, Path) or (isinstance(cluster, str) and cluster.endswith(_YAML)):
        cluster = Cluster.load(cluster)
    if not isinstance(cluster, Cluster):
        told = "a schedule needs the specification of a cluster on EKS."
        remedy = "Give a Cluster or its YAML file."
    elif cluster.backend != "eks":
        told = f"{cluster.name!r} is a local cluster, which has no clock."
        remedy = "Use one on EKS."
    else:
        return cluster
    remedy += f' Or let cron make the call without a schedule, with since="{WATERMARK}".'
    raise InvalidSpec([Problem("cluster", told, remedy)], "eksml.batch")


def _apply(cluster: Cluster, made: dict[str, Any]) -> None:
    """Apply the RayCronJob and what its clusters need around them, which goes when it goes."""
    from eksml.backends.kube.apply import Change
    from eksml.backends.kube.client import KubeClient
    from eksml.backends.kube.objects import Ref
    from eksml.backends.kube.templates import check_templates

    kube, ref = KubeClient.connect(), Ref.of(made)
    is_new = kube.get(ref) is None
    change = Change(kube, cluster.name)
    try:
        change.apply(surroundings(cluster))
        template = made["spec"]["jobTemplate"]["rayClusterSpec"]
        check_templates(kube, {"metadata": made["metadata"], "spec": template})
        change.bind(kube.apply(made), [*change.created, *change.shared])
    except BaseException as error:
        if is_new:
            _withdraw(kube, ref, error)
        change.undo(error)
        raise
    for told in change.left_out:
        _log.warning("%s", told)


def _withdraw(kube: KubeClient, ref: Any, failure: BaseException) -> None:
    try:
        kube.delete(ref)
    except EksmlError as error:
        failure.add_note(f"{ref} was left behind: {error}")
