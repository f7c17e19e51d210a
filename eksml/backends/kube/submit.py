"""Jobs with a cluster of their own: a RayJob is created, followed and removed."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from eksml.backends.kube import apply, pods
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import OwnDoor
from eksml.backends.kube.kuberay_client import create_job
from eksml.backends.kube.objects import UP_ANNOTATION, Object, Ref
from eksml.backends.kube.starting import why_waiting
from eksml.backends.kube.templates import check_templates
from eksml.backends.kube.watch import Live, Selection
from eksml.backends.progress import Progress
from eksml.backends.why.reason import at
from eksml.cluster import Cluster
from eksml.cluster.render import ray_job, surroundings
from eksml.cluster.vocabulary import RAY_API
from eksml.cluster.workloads import RayJobSpec
from eksml.errors import (
    ClusterError,
    ClusterInUse,
    ClusterNotUp,
    EksmlError,
    InvalidSpec,
    Problem,
)

_ENDED = ("Complete", "Failed", "ValidationFailed")
_NAME_LENGTH = 47
"""The operator takes no longer name of a RayJob."""
_TICK_S = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobState:
    """How a RayJob stands."""

    deployment: str
    """The operator's view: ``Initializing``, ``Running``, ``Complete``, ``Failed``,
    ``ValidationFailed``, ``Suspended``, ``Retrying``, ``Waiting``; empty before its first look."""
    job: str
    """Ray's view: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED``, ``STOPPED``; empty before
    it was submitted."""
    reason: str = ""
    message: str = ""
    cluster: str = ""
    """The RayCluster that was made for it, or chosen."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.deployment in _ENDED

    @property
    def succeeded(self) -> bool:
        """Whether the entrypoint ended with 0."""
        return self.deployment == "Complete" and self.job == "SUCCEEDED"

    def __str__(self) -> str:
        told = ", ".join(filter(None, (self.deployment or "submitted", self.job, self.reason)))
        return f"{told}: {self.message}" if self.message else told


class KubeJob:
    """A RayJob that was submitted."""

    def __init__(self, client: KubeClient, ref: Ref) -> None:
        self.ref = ref
        self.name = ref.name
        self._client = client

    def state(self) -> JobState:
        """How it stands now.

        Raises:
            ClusterNotUp: it is gone: deleted, or its time to live is over.
            ClusterError: it cannot be read.
        """
        return _state(self.ref, self._client.get(self.ref))

    def wait(self, timeout_s: float | None = None, *, progress: bool = False) -> JobState:
        """Until it has ended, however; the cluster that comes for it explains itself meanwhile.

        Raises:
            ClusterNotUp: it was deleted.
            ClusterError: it has not ended in ``timeout_s``; with the reason. It goes on.
        """
        began = time.monotonic()
        chosen = Selection(
            RAY_API, "RayJob", self.ref.namespace, fields=f"metadata.name={self.ref.name}"
        )
        with (
            Progress(f"job {self.name}", shown=progress) as line,
            Live(self._client, [chosen]) as live,
        ):
            while True:
                if live.complete:
                    state = _state(self.ref, next(iter(live.objects("RayJob")), None))
                    if state.ended:
                        return state
                    line.show(str(state))
                    if timeout_s is not None and time.monotonic() - began > timeout_s:
                        raise ClusterError(
                            f"{self.ref} has not ended in {timeout_s:g} s ({state}). {self.why()}"
                        )
                live.wait(_TICK_S)

    def why(self) -> str:
        """Why it is not running, in a sentence; empty once it is, or before its cluster is.

        Raises:
            ClusterError: that cannot be read.
        """
        state = self.state()
        if not state.cluster or state.deployment == "Running" or state.ended:
            return ""
        return str(
            why_waiting(self._client, Ref(RAY_API, "RayCluster", state.cluster, self._place))
        )

    def logs(self, *, lines: int = 200) -> Iterator[str]:
        """The last lines that the entrypoint printed, as the container that submits it shows them.

        Raises:
            ClusterError: they cannot be read.
        """
        pod = self._submitter()
        if pod is None:
            return iter(())
        container = pod["spec"]["containers"][-1]["name"]  # a sidecar comes after Ray's own
        text = self._client.log(pods.ref_of(pod), {"container": container, "tailLines": str(lines)})
        return iter(text.splitlines())

    def delete(self) -> None:
        """Remove it, and the cluster that was made for it. Doing it twice is fine.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        self._client.delete(self.ref)

    @property
    def _place(self) -> str:
        return str(self.ref.namespace)

    def _submitter(self) -> Object | None:
        """The submitting Job's pod, or else the head with its sidecar."""
        cluster = self.state().cluster
        for labels in (
            f"job-name={self.name}",
            f"ray.io/cluster={cluster},ray.io/node-type=head",
        ):
            found = self._client.list("v1", "Pod", self._place, labels=labels).items
            if found:
                return found[-1]
        return None


def submit(
    cluster: Cluster,
    job: RayJobSpec,
    *,
    name: str | None = None,
    force: bool = False,
    client: object | None = None,
) -> KubeJob:
    """Create a RayJob with a cluster of that specification; returns before it runs.

    What is around the cluster is applied too and goes with the last job that uses it. A
    ``working_dir`` in the job's runtime environment must be a URI that pods can read:
    :func:`eksml.runs.ray_job.submit` uploads a local folder. ``name``: None for a new one.
    ``client``: a ``RayjobApi`` of KubeRay's Python client, to create the RayJob through.

    Raises:
        InvalidSpec: the specification, the job or the name is wrong, or the API server does not
            take an object.
        ClusterInUse: a job of that name is there.
        ClusterError: the API server refuses, or another manager owns a field.
    """
    name = name or f"{cluster.name[: _NAME_LENGTH - 6]}-{secrets.token_hex(2)}"
    if len(name) > _NAME_LENGTH:
        told = f"{name!r} has {len(name)} characters; KubeRay takes {_NAME_LENGTH}."
        raise InvalidSpec([Problem("name", told)], subject="the job")
    manifest = _named(ray_job(cluster, job), name)
    kube = KubeClient.connect()
    ref = Ref.of(manifest)
    if kube.get(ref) is not None:
        raise ClusterInUse(f"{ref} exists already. Choose another name, or delete it.")
    change = apply.Change(kube, cluster.name, force=force)
    try:
        if middle := manifest["spec"].get("rayClusterSpec"):
            change.apply(surroundings(cluster))
            check_templates(kube, {"metadata": manifest["metadata"], "spec": middle})
        create = OwnDoor(kube).create if client is None else partial(create_job, client, kube)
        made = create(manifest)
        change.bind(made, [*change.created, *change.shared])
    except BaseException as error:
        _undo(kube, ref, change, error)
        raise
    for told in change.left_out:
        _log.warning("%s", told)
    return KubeJob(kube, ref)


def _named(rayjob: Object, name: str) -> Object:
    """The job under a name of its own, with a mark by which a lost answer is understood."""
    metadata = rayjob["metadata"]
    annotations = {**(metadata.get("annotations") or {}), UP_ANNOTATION: secrets.token_hex(8)}
    return {**rayjob, "metadata": {**metadata, "name": name, "annotations": annotations}}


def _undo(client: KubeClient, ref: Ref, change: apply.Change, failure: BaseException) -> None:
    if not isinstance(failure, ClusterInUse):  # else the job of that name is somebody else's
        try:
            client.delete(ref)
        except EksmlError as error:
            failure.add_note(f"{ref} was left behind: {error}")
    change.undo(failure)


def find_job(name: str, namespace: str | None = None) -> KubeJob:
    """The RayJob of that name; ``namespace`` None: the context's.

    Raises:
        ClusterNotUp: there is none.
        ClusterError: Kubernetes cannot be asked.
    """
    client = KubeClient.connect()
    job = KubeJob(client, Ref(RAY_API, "RayJob", name, namespace or client.access.namespace))
    job.state()
    return job


def _state(ref: Ref, rayjob: Object | None) -> JobState:
    if rayjob is None:
        raise ClusterNotUp(f"{ref} is not there (any more).")
    status = rayjob.get("status") or {}
    return JobState(
        status.get("jobDeploymentStatus", ""),
        status.get("jobStatus", ""),
        status.get("reason", ""),
        status.get("message", ""),
        status.get("rayClusterName", "")
        or str(at(rayjob, "spec", "clusterSelector", "ray.io/cluster") or ""),
    )
