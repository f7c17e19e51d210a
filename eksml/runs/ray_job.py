"""A RayJob with a local working folder: uploaded, and named in the job's runtime environment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eksml.errors import CallError, InvalidSpec, Problem
from eksml.runs import archive
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends.kube.submit import KubeJob
    from eksml.cluster import Cluster
    from eksml.cluster.workloads import RayJobSpec

_TOP = "code"
"""Ray strips a single top folder of a remote archive; so there always is one."""


def submit(
    cluster: Cluster,
    job: RayJobSpec,
    *,
    folder: str | Path,
    storage: str | URI,
    name: str | None = None,
    force: bool = False,
    client: object | None = None,
) -> KubeJob:
    """Upload ``folder`` and create a RayJob that runs in it; returns before it runs.

    The archive is named by its contents: the same files are uploaded once. The pods read it with
    their own identity, so ``storage`` must be in S3. ``name``, ``force`` and ``client`` are those
    of :func:`eksml.backends.kube.submit.submit`.

    Raises:
        InvalidSpec: ``storage`` is no place that pods can read, or the job has a working_dir.
        CallError: the folder is missing, is too large to travel, or holds AWS keys.
        ClusterError: Kubernetes refuses, or a job of that name is there.
    """
    from eksml.backends.kube.submit import submit as create

    place = URI.parse(storage)
    _check(job, place)
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise CallError(f"The working folder {path} is not there.")
    files = archive.files_of_folder(path, prefix=_TOP)
    digest = archive.upload(place, archive.build(files, str(path)))
    working_dir = str(archive.archive_uri(place, digest))
    with_folder = job.model_copy(
        update={"runtime_env": {**job.runtime_env, "working_dir": working_dir}}
    )
    return create(cluster, with_folder, name=name, force=force, client=client)


def _check(job: RayJobSpec, storage: URI) -> None:
    problems = []
    if storage.scheme != "s3":
        told = f"{storage} cannot be read by the cluster's pods."
        problems.append(Problem("storage", told, "Give a place in S3: s3://bucket/prefix."))
    if "working_dir" in job.runtime_env:
        told = "is given beside a folder that would take its place."
        problems.append(Problem("runtime_env.working_dir", told, "Leave out one of the two."))
    if problems:
        raise InvalidSpec(problems, subject="the job")
