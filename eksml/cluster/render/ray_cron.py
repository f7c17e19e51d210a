"""The RayCronJob: a job by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eksml.cluster.render.checked import checked
from eksml.cluster.render.metadata import metadata
from eksml.cluster.render.ray_job import job_spec
from eksml.cluster.vocabulary import RAY_API
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster
    from eksml.cluster.workloads import RayCronSpec


def ray_cron_job(spec: Cluster, cron: RayCronSpec) -> dict[str, Any]:
    """The RayCronJob that starts ``cron.job`` by its schedule, and is named like ``spec``.

    Raises:
        InvalidSpec: its jobs could not queue or would share a claim, or a rule of KubeRay; every
            problem.
    """
    if problems := list(_contradictions(spec)):
        raise InvalidSpec(problems, subject=f"the RayCronJob {spec.name!r}")
    made: dict[str, Any] = {"schedule": cron.schedule}
    if cron.time_zone:
        made["timeZone"] = cron.time_zone
    if cron.suspend:
        made["suspend"] = True
    manifest = {
        "apiVersion": RAY_API,
        "kind": "RayCronJob",
        "metadata": metadata(spec),
        "spec": made | {"jobTemplate": job_spec(spec, cron.job)},
    }
    return checked(spec, manifest)


def _contradictions(spec: Cluster) -> Iterator[Problem]:
    if spec.queue:
        yield Problem(
            "queue",
            f"{spec.queue.name!r} would be passed by: the operator gives the jobs that a "
            "RayCronJob starts none of its labels.",
            "Leave it out and guard the namespace by a quota, or submit RayJobs by a scheduler.",
        )
    if spec.state and spec.state.claim:
        yield Problem(
            "head_state.claim",
            f"{spec.state.claim!r} would be the heads' of two jobs that overlap.",
            "Say a size instead.",
        )
