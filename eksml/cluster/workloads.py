"""What runs on a cluster of its own in Kubernetes: a job, a service, a job by the clock."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from eksml.cluster.names import AtLeastOne, Count, LabelKey, LabelValue
from eksml.cluster.problems import Spec

Percent = Annotated[int, Field(strict=True, ge=0, le=100)]


def _json(value: dict[str, Any]) -> dict[str, Any]:
    return value


class RayJobSpec(Spec):
    """One command on a cluster that comes and goes with it (KubeRay's RayJob)."""

    entrypoint: str = ""
    """The shell command, such as ``python train.py``. Empty only with mode ``interactive``."""
    runtime_env: Annotated[dict[str, Any], AfterValidator(_json)] = Field(default_factory=dict)
    """Ray's runtime environment: ``working_dir``, ``pip``, ``env_vars``."""
    mode: Literal["sidecar", "k8s", "http", "interactive"] = "sidecar"
    """Who submits: a container in the head's pod, a Kubernetes Job, the operator, or you."""
    retries: Count = 0
    """How often a failed job is tried again, each time on a new cluster."""
    deadline_s: AtLeastOne | None = None
    """Seconds after which the job is ended, from its start. None: none."""
    pending_deadline_s: AtLeastOne | None = None
    """Seconds within which the cluster must be there and the job run. None: none."""
    delete_workers_s: Count | None = None
    """Seconds after the end until the workers go. None: they go with the cluster."""
    delete_cluster_s: Count | None = 300
    """Seconds after the end until the cluster goes. None: it stays."""
    delete_job_s: Count | None = 86400
    """Seconds after the end until the RayJob itself goes. None: it stays."""
    suspend: bool = False
    """Made, but not started until a queue or a person resumes it."""
    selector: dict[LabelKey, LabelValue] | None = None
    """Run on a cluster that is there already: ``{"ray.io/cluster": "its-name"}``."""
    submitter_retries: Count = 2
    """How often the Kubernetes Job tries to submit; only with mode ``k8s``."""


class RayServiceSpec(Spec):
    """Serve applications that stay up while they change (KubeRay's RayService)."""

    serve_config: dict[str, Any] | str
    """Serve's configuration (``applications: …``), as a mapping or as YAML."""
    upgrade: Literal["incremental", "new-cluster", "none"] = "incremental"
    """How a change comes: step by step onto a growing new cluster, onto a whole second one, or not
    at all."""
    surge: Percent = 100
    """How much of a second cluster there may be during an incremental upgrade."""
    step: Percent = 10
    """How much of the traffic moves at once."""
    interval_s: AtLeastOne = 10
    """Seconds between two steps."""
    gateway_class: str = "istio"
    """The GatewayClass that splits the traffic."""
    old_cluster_delay_s: Count = 60
    """Seconds that the old cluster stays after the last step."""


class RayCronSpec(Spec):
    """A job by the clock (KubeRay's RayCronJob; behind the gate of that name)."""

    schedule: str
    """Minute, hour, day, month, weekday, such as ``0 2 * * *``; or ``@daily``."""
    job: RayJobSpec
    """What runs each time."""
    time_zone: str | None = None
    """Such as ``Europe/Berlin``. None: that of the operator, usually UTC."""
    suspend: bool = False
    """Start no more jobs; those that run go on."""
