"""The RayJob: one command, on a cluster that comes and goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from eksml.cluster.image import image_of
from eksml.cluster.render.checked import checked
from eksml.cluster.render.metadata import metadata
from eksml.cluster.render.names import service_account
from eksml.cluster.render.ray_cluster import cluster_spec
from eksml.cluster.render.security import container_security, pod_security
from eksml.cluster.vocabulary import RAY_API
from eksml.cluster.yaml import dump_yaml
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster
    from eksml.cluster.workloads import RayJobSpec

_MODES = {
    "sidecar": "SidecarMode",
    "k8s": "K8sJobMode",
    "http": "HTTPMode",
    "interactive": "InteractiveMode",
}
_ENDS: tuple[dict[str, str], ...] = (
    {"jobStatus": "SUCCEEDED"},
    {"jobStatus": "FAILED"},
    # A job that never ran, or ran past its deadline, ends without a status of Ray's
    {"jobDeploymentStatus": "Failed"},
)


def ray_job(spec: Cluster, job: RayJobSpec) -> dict[str, Any]:
    """The RayJob that runs ``job`` on a cluster of ``spec``, and is named like it.

    Raises:
        InvalidSpec: job and cluster contradict each other, or a rule of KubeRay; every problem.
    """
    if problems := list(_contradictions(spec, job)):
        raise InvalidSpec(problems, subject=f"the RayJob {spec.name!r}")
    manifest = {
        "apiVersion": RAY_API,
        "kind": "RayJob",
        # A job on a cluster that is there already has been admitted with it
        "metadata": metadata(spec, queued=job.selector is None),
        "spec": job_spec(spec, job),
    }
    return checked(spec, manifest)


def job_spec(spec: Cluster, job: RayJobSpec) -> dict[str, Any]:
    """The ``spec`` of a RayJob: also the template of a RayCronJob."""
    made: dict[str, Any] = {"submissionMode": _MODES[job.mode]}
    if job.entrypoint:
        made["entrypoint"] = job.entrypoint
    if job.runtime_env:
        made["runtimeEnvYAML"] = dump_yaml(job.runtime_env)
    if job.retries:
        made["backoffLimit"] = job.retries
    if job.deadline_s is not None:
        made["activeDeadlineSeconds"] = job.deadline_s
    if job.pending_deadline_s is not None:
        made["preRunningDeadlineSeconds"] = job.pending_deadline_s
    if job.suspend:
        made["suspend"] = True
    made |= _ending(spec, job)
    if job.mode == "k8s":
        made |= _submitter(spec, job)
    if job.selector:
        return made | {"clusterSelector": dict(job.selector)}
    return made | {"rayClusterSpec": cluster_spec(spec)}


def _ending(spec: Cluster, job: RayJobSpec) -> dict[str, Any]:
    """What goes when the job has ended."""
    if _shut_down_whole(spec, job):
        made: dict[str, Any] = {"shutdownAfterJobFinishes": True}
        if job.delete_cluster_s:
            made["ttlSecondsAfterFinished"] = job.delete_cluster_s
        return made
    after = {
        "DeleteWorkers": job.delete_workers_s,
        "DeleteCluster": job.delete_cluster_s,
        "DeleteSelf": job.delete_job_s,
    }
    if job.selector:
        after = {"DeleteSelf": job.delete_job_s}  # the cluster is somebody else's
    rules = [
        {"policy": policy, "condition": {**end, "ttlSeconds": seconds}}
        for policy, seconds in after.items()
        if seconds is not None
        for end in _ENDS
    ]
    return {"deletionStrategy": {"deletionRules": rules}} if rules else {}


def _shut_down_whole(spec: Cluster, job: RayJobSpec) -> bool:
    """Whether the cluster must go by ``shutdownAfterJobFinishes``, which excludes deletion rules:
    Kueue refuses a job without it, and the operator one that can be suspended."""
    queued = spec.queue is not None and spec.queue.kind == "kueue"
    return job.suspend or (queued and job.selector is None)


def _submitter(spec: Cluster, job: RayJobSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"submitterConfig": {"backoffLimit": job.submitter_retries}}
    if not spec.security.restricted:
        return made
    # The operator's own submitter would be refused in a namespace that enforces «restricted»
    container = {
        "name": "ray-job-submitter",
        "image": image_of(spec, spec.head),
        # As the operator's own container has them
        "resources": {
            "limits": {"cpu": "1", "memory": "1Gi"},
            "requests": {"cpu": "500m", "memory": "200Mi"},
        },
        "securityContext": container_security(spec),
    }
    pod = {
        "containers": [container],
        "restartPolicy": "Never",
        "serviceAccountName": service_account(spec),
        "automountServiceAccountToken": False,
        "securityContext": pod_security(spec),
    }
    return made | {"submitterPodTemplate": {"spec": pod}}


def _contradictions(spec: Cluster, job: RayJobSpec) -> Iterator[Problem]:
    if not _shut_down_whole(spec, job):
        return
    why = "a suspended job" if job.suspend else f"Kueue's queue {spec.queue and spec.queue.name!r}"
    if job.delete_cluster_s is None:
        yield Problem(
            "delete_cluster_s",
            f"is none, but {why} needs the cluster to go when the job ends.",
            "Say the seconds after which it goes.",
        )
    if job.delete_workers_s is not None:
        yield Problem(
            "delete_workers_s",
            f"{job.delete_workers_s} has no effect: with {why}, workers go with the cluster.",
            "Leave it out, and say delete_cluster_s.",
        )
