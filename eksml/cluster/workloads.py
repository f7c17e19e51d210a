"""What runs on a cluster of its own in Kubernetes: a job, a service, a job by the clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from eksml.cluster.names import AtLeastOne, Count, LabelKey, LabelValue, ObjectName
from eksml.cluster.pod import json_problems
from eksml.cluster.problems import Refused, Spec
from eksml.errors import Problem

_SUBMITTER_RETRIES = 2
_CLUSTER_LABEL = "ray.io/cluster"

Percent = Annotated[int, Field(strict=True, ge=0, le=100)]


def _runtime_env(value: dict[str, Any]) -> dict[str, Any]:
    problems = list(json_problems(value))
    variables = value.get("env_vars", {})
    if isinstance(variables, dict):
        problems += [
            Problem(f"env_vars.{name}", f"{text!r:.80} is not text.", "Put it in quotes.")
            for name, text in variables.items()
            if not isinstance(text, str)
        ]
    if problems:
        raise Refused(problems)
    return value


class RayJobSpec(Spec):
    """One command on a cluster that comes and goes with it (KubeRay's RayJob)."""

    entrypoint: str = ""
    """The shell command, such as ``python train.py``. Empty only with mode ``interactive``."""
    runtime_env: Annotated[dict[str, Any], AfterValidator(_runtime_env)] = Field(
        default_factory=dict
    )
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
    """Seconds after the end until the cluster goes. None: it goes with the RayJob."""
    delete_job_s: Count | None = 86400
    """Seconds after the end until the RayJob itself goes. None: it stays."""
    suspend: bool = False
    """Made, but not started until a queue or a person resumes it."""
    selector: dict[LabelKey, LabelValue] | None = None
    """Run on a cluster that is there already: ``{"ray.io/cluster": "its-name"}``."""
    submitter_retries: Count = _SUBMITTER_RETRIES
    """How often the Kubernetes Job tries to submit; only with mode ``k8s``."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if problems := [*self._mode_problems(), *self._selector_problems(), *self._ends()]:
            raise Refused(problems)
        return self

    def _mode_problems(self) -> Iterator[Problem]:
        interactive = self.mode == "interactive"
        if interactive and self.entrypoint:
            told = "has no effect with mode: interactive, where you submit."
            yield Problem("entrypoint", told, "Leave out one of the two.")
        if not interactive and not self.entrypoint.strip():
            yield Problem("entrypoint", "is missing.", "Write a command, or mode: interactive.")
        if interactive and self.retries:
            told = f"{self.retries}, but KubeRay does not retry an interactive job."
            yield Problem("retries", told, "Leave it out.")
        if self.mode != "k8s" and self.submitter_retries != _SUBMITTER_RETRIES:
            told = f"{self.submitter_retries} has no effect with mode: {self.mode}."
            yield Problem("submitter_retries", told, "Leave it out, or say mode: k8s.")

    def _selector_problems(self) -> Iterator[Problem]:
        if self.selector is None:
            return
        if not self.selector.get(_CLUSTER_LABEL):
            told = f"{self.selector} names no cluster."
            yield Problem("selector", told, f'Write {{"{_CLUSTER_LABEL}": "its-name"}}.')
        if self.mode == "sidecar":
            told = "sidecar is a container in a head of the job's own, which a selector rules out."
            yield Problem("mode", told, "Say mode: k8s.")
        for field in ("suspend", "retries", "delete_workers_s"):
            if getattr(self, field):
                told = "is for a cluster of the job's own, which a selector rules out."
                yield Problem(field, told, "Leave out one of the two.")

    def _ends(self) -> Iterator[Problem]:
        order = ("delete_workers_s", "delete_cluster_s", "delete_job_s")
        said = [(field, getattr(self, field)) for field in order]
        for (first, early), (second, late) in pairwise(
            [pair for pair in said if pair[1] is not None]
        ):
            if early > late:
                told = f"{late} is less than {first}, {early}."
                yield Problem(second, told, "Workers go first, then the cluster, then the job.")


class RayServiceSpec(Spec):
    """Serve applications that stay up while they change (KubeRay's RayService)."""

    serve_config: dict[str, Any] | str
    """Serve's configuration (``applications: …``), as a mapping or as YAML."""
    upgrade: Literal["incremental", "new-cluster", "none"] = "incremental"
    """How a change comes: step by step onto a growing new cluster, onto a whole second one, or not
    at all."""
    surge: Percent = 100
    """How much of a second cluster there may be during an incremental upgrade."""
    step: Annotated[int, Field(strict=True, ge=1, le=100)] = 10
    """How much of the traffic moves at once."""
    interval_s: AtLeastOne = 10
    """Seconds between two steps."""
    gateway_class: ObjectName = "istio"
    """The GatewayClass that splits the traffic."""
    old_cluster_delay_s: Count = 60
    """Seconds that the old cluster stays after the last step."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        problems = list(self._config_problems())
        if self.upgrade == "incremental" and self.step > self.surge:
            told = f"{self.step} is more than surge, {self.surge}."
            problems.append(Problem("step", told, "Write less, or raise surge."))
        if problems:
            raise Refused(problems)
        return self

    def _config_problems(self) -> Iterator[Problem]:
        from eksml.cluster.rules.field import Field as Written
        from eksml.cluster.rules.serve_config import serve_config
        from eksml.cluster.yaml import dump_yaml

        config = self.serve_config
        if isinstance(config, dict):
            if not_json := list(json_problems(config, "serve_config")):
                yield from not_json
                return
            config = dump_yaml(config)
        manifest = Written({"spec": {"serveConfigV2": config}}, "")
        for problem in serve_config(manifest):
            path = problem.path.removeprefix("spec.").replace("serveConfigV2", "serve_config", 1)
            yield Problem(path, problem.message, problem.remedy)


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

    @model_validator(mode="after")
    def _whole(self) -> Self:
        from eksml.cluster.rules.cron import schedule
        from eksml.cluster.rules.field import Field as Written

        written = {"schedule": self.schedule} | (
            {} if self.time_zone is None else {"timeZone": self.time_zone}
        )
        names = {"spec.schedule": "schedule", "spec.timeZone": "time_zone"}
        problems = [
            Problem(names[found.path], found.message, found.remedy)
            for found in schedule(Written({"spec": written}, ""))
        ]
        if problems:
            raise Refused(problems)
        return self
