"""Rule 13: a RayJob, alone or as the template of a RayCronJob."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.yaml_text import read_mapping
from eksml.cluster.syntax import DNS_1035, is_dns_1035
from eksml.errors import Problem

SELECTOR_KEY = "ray.io/cluster"
"""The one key that ``clusterSelector`` is read for."""

_OTHERS_WORKERS = ("DeleteCluster", "DeleteWorkers")


@dataclass(frozen=True)
class Job:
    """A ``RayJobSpec``."""

    spec: Field

    @property
    def cluster(self) -> Field:
        """The specification of the cluster that it starts."""
        return self.spec["rayClusterSpec"]

    @property
    def selects(self) -> bool:
        """Whether it runs on a cluster that is there already."""
        return self.spec["clusterSelector"].filled

    @property
    def mode(self) -> str:
        """How it is submitted."""
        return self.spec["submissionMode"].text or "K8sJobMode"

    @property
    def autoscaled(self) -> bool:
        """Whether its cluster is autoscaled."""
        return self.cluster["enableInTreeAutoscaling"].on


@rule(13, "job: cluster")
def one_cluster(job: Job) -> Iterator[Problem]:
    """Rule 13: a job has a cluster of its own or selects one, and a selected one stays as it is."""
    spec, selector = job.spec, job.spec["clusterSelector"]
    if not job.cluster.given and not job.selects:
        yield job.cluster.problem("is missing.", "Write it, or select a cluster: clusterSelector.")
    if not job.selects:
        return
    if job.cluster.given:
        yield job.cluster.problem("is not read beside clusterSelector.", "Keep one of the two.")
    if not is_dns_1035(selector[SELECTOR_KEY].text):
        yield selector.problem(f"names no cluster at {SELECTOR_KEY!r}.", DNS_1035)
    if spec["suspend"].on:
        yield spec["suspend"].problem("cannot be true with a clusterSelector.")
    if (spec["backoffLimit"].whole or 0) > 0:
        yield spec["backoffLimit"].problem(
            f"{spec['backoffLimit'].shown}: a retry starts a new cluster, and clusterSelector "
            "names one.",
            "Leave it out.",
        )
    if job.mode == "SidecarMode":
        yield spec["submissionMode"].problem(
            "'SidecarMode' submits from the head that the job starts; clusterSelector starts none.",
            "Use K8sJobMode or HTTPMode.",
        )


@rule(13, "job: end")
def end(job: Job) -> Iterator[Problem]:
    """Rule 13: what a job leaves behind is said in one way, and suspending is allowed by it."""
    spec = job.spec
    shutdown, ttl = spec["shutdownAfterJobFinishes"], spec["ttlSecondsAfterFinished"]
    if spec["suspend"].on and not shutdown.on:
        yield spec["suspend"].problem(
            "needs shutdownAfterJobFinishes: true.", "Set it: a suspended job's cluster is deleted."
        )
    if (ttl.whole or 0) < 0:
        yield ttl.problem(f"{ttl.shown} is less than 0.", "Write seconds.")
    if (ttl.whole or 0) > 0 and not shutdown.on:
        yield ttl.problem(
            f"{ttl.shown} has no effect without shutdownAfterJobFinishes: true.", "Set it."
        )
    strategy = spec["deletionStrategy"]
    legacy = [field for name in ("onSuccess", "onFailure") if (field := strategy[name]).given]
    if strategy["deletionRules"].filled:
        if shutdown.on:
            yield shutdown.problem("stands beside deletionRules.", "Keep only the rules.")
        for field in legacy:
            yield field.problem("stands beside deletionRules.", "Keep only the rules.")
    elif strategy.given and len(legacy) < 2:
        yield strategy.problem("says not what to delete.", "Write deletionRules.")
    for field in legacy:
        yield from _deletes(job, field["policy"])
        if shutdown.on and field["policy"].text == "DeleteNone":
            yield field["policy"].problem("'DeleteNone' contradicts shutdownAfterJobFinishes.")


@rule(13, "job: deletion rules")
def deletion_rules(job: Job) -> Iterator[Problem]:
    """Rule 13: no rule twice for a status, and workers go no later than the cluster, and it no
    later than the job."""
    ages: dict[tuple[str, str], tuple[int, Field]] = {}
    for entry in job.spec["deletionStrategy"]["deletionRules"].items():
        policy, condition = entry["policy"], entry["condition"]
        yield from _deletes(job, policy)
        yield from _condition(condition)
        age = condition["ttlSeconds"].whole or 0
        status = condition["jobStatus"].text or condition["jobDeploymentStatus"].text
        if (status, policy.text) in ages:
            yield entry.problem(f"is a second rule for {policy.text} on {status}.", "Keep one.")
        ages[status, policy.text] = age, condition["ttlSeconds"]
    for status in sorted({status for status, _ in ages}):
        order = [(status, policy) for policy in ("DeleteWorkers", "DeleteCluster", "DeleteSelf")]
        present = [key for key in order if key in ages]
        for earlier, later in pairwise(present):
            if ages[later][0] < ages[earlier][0]:
                yield ages[later][1].problem(
                    f"{later[1]} on {status} comes after {ages[later][0]} s, before {earlier[1]}, "
                    f"which comes after {ages[earlier][0]} s.",
                    "Keep DeleteWorkers ≤ DeleteCluster ≤ DeleteSelf.",
                )


def _deletes(job: Job, policy: Field) -> Iterator[Problem]:
    if job.selects and policy.text in _OTHERS_WORKERS:
        yield policy.problem(
            f"{policy.shown} would delete from a cluster that the job did not start.",
            "Use DeleteSelf or DeleteNone.",
        )
    if job.autoscaled and policy.text == "DeleteWorkers":
        yield policy.problem("'DeleteWorkers' is not offered with autoscaling.", "DeleteCluster?")
    if not policy.given:
        yield policy.problem("is missing.")


def _condition(condition: Field) -> Iterator[Problem]:
    status, deployment = condition["jobStatus"], condition["jobDeploymentStatus"]
    if status.given == deployment.given:
        yield condition.problem(
            "needs exactly one of jobStatus and jobDeploymentStatus.", "Write jobStatus."
        )
    if deployment.given and deployment.value != "Failed":
        yield deployment.problem(f"{deployment.shown} is not Failed, the one status it knows.")
    age = condition["ttlSeconds"]
    if (age.whole or 0) < 0:
        yield age.problem(f"{age.shown} is less than 0.", "Write seconds.")


@rule(13, "job: limits")
def limits(job: Job) -> Iterator[Problem]:
    """Rule 13: deadlines are more than 0, retries not less."""
    spec = job.spec
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        field = spec[name]
        if field.whole is not None and field.whole <= 0:
            yield field.problem(f"{field.shown} is not more than 0.", "Write seconds.")
    for field in (spec["backoffLimit"], spec["submitterConfig"]["backoffLimit"]):
        if (field.whole or 0) < 0:
            yield field.problem(f"{field.shown} is less than 0.")


@rule(13, "job: submission")
def submission(job: Job) -> Iterator[Problem]:
    """Rule 13: each submission mode takes only what it reads, and all but one need a command."""
    spec = job.spec
    if job.mode != "InteractiveMode" and not spec["entrypoint"].text.strip():
        yield spec["entrypoint"].problem(
            "is missing.", "Write the command, such as python main.py."
        )
    if job.mode == "InteractiveMode" and (spec["backoffLimit"].whole or 0) > 0:
        yield spec["backoffLimit"].problem("cannot be more than 0 in InteractiveMode.")
    if job.mode == "SidecarMode":
        for name in ("submitterPodTemplate", "submitterConfig"):
            if spec[name].given:
                yield spec[name].problem("is not read in SidecarMode.", "Leave it out.")
        policy = job.cluster["headGroupSpec"]["template"]["spec"]["restartPolicy"]
        if policy.text not in ("", "Never"):
            yield policy.problem(f"{policy.shown} is not Never, as SidecarMode needs it.")
    policy = spec["submitterPodTemplate"]["spec"]["restartPolicy"]
    if policy.text == "Always":
        yield policy.problem("'Always' is not for a Job.", "Write Never.")


@rule(13, "job: runtime environment")
def runtime_env(job: Job) -> Iterator[Problem]:
    """Rule 13: ``runtimeEnvYAML`` is YAML that holds a mapping, ``entrypointResources`` JSON."""
    field = job.spec["runtimeEnvYAML"]
    if field.text.strip():
        yield from read_mapping(field, "pip: [numpy]")[1]
    field = job.spec["entrypointResources"]
    if field.text and not _is_amounts(field.text):
        yield field.problem(f"{field.shown} is not JSON of names and numbers.", 'Such as {"a": 1}.')


def _is_amounts(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in found.values()
    )


RULES = (one_cluster, end, deletion_rules, limits, submission, runtime_env)
