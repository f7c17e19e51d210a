"""Whether KubeRay's operator, EKS and Ray's autoscaler will do what a manifest says.

The API server accepts most broken objects, and the pods then stay Pending for ever. ``check``
finds them beforehand, on plain dicts, wherever these come from. Each problem says by which rule it
was found: rules 1–17 are those that no schema enforces.

========  ===================================  ====================
rule      about                                file
========  ===================================  ====================
1         names                                ``names``
2–5       groups, replicas, resources, labels  ``groups``
6–9       autoscaling                          ``autoscaling``
10, 11    where the head keeps its state       ``head_state``
12        token authentication                 ``auth``
13        RayJob                               ``job``
14        RayService, its Serve configuration  ``service``, ``serve_config``
15        RayCronJob                           ``cron``, ``schedule``
16        pod templates as pods                ``pod``, ``containers``, ``volumes``,
                                               ``requests``, ``scheduling``
17        nulls                                ``nulls``
--        unknown fields and wrong types       ``shape``
--        feature gates, EKS                   ``features``, ``eks``
========  ===================================  ====================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from eksml.cluster.rules import (
    auth,
    autoscaling,
    containers,
    cron,
    eks,
    features,
    groups,
    head_state,
    job,
    names,
    pod,
    requests,
    scheduling,
    serve_config,
    service,
    volumes,
)
from eksml.cluster.rules.field import Field, Violation, rule
from eksml.cluster.rules.job import Job
from eksml.cluster.rules.nulls import nulls, strip_none
from eksml.cluster.rules.pod import Pod
from eksml.cluster.rules.ray_cluster import RayCluster
from eksml.cluster.rules.shape import misshapen
from eksml.cluster.vocabulary import GATES, RAY_API
from eksml.errors import Problem

__all__ = ["GATES", "Violation", "check", "check_pod", "strip_none"]

_CLUSTER_RULES = (
    *groups.RULES,
    *autoscaling.RULES,
    *head_state.RULES,
    *auth.RULES,
    *features.RULES,
    *eks.RULES,
)
_POD_RULES = (
    *pod.RULES,
    *containers.RULES,
    *volumes.RULES,
    *requests.RULES,
    *scheduling.RULES,
)


def check(manifest: Mapping[str, Any], *, gates: Collection[str] = ()) -> list[Problem]:
    """Every problem of a RayCluster, RayJob, RayService or RayCronJob; none of any other kind.

    ``gates`` are the operator's feature gates that are on beside its defaults (see ``GATES``).
    Total: whatever ``manifest`` holds, it is answered with problems, never with an exception.
    The order is that of the rules.
    """
    kind = manifest.get("kind") if isinstance(manifest, Mapping) else None
    if not isinstance(kind, str) or kind not in names.LONGEST_NAME:
        return []
    return list(_check(Field(dict(manifest), ""), kind, frozenset(gates)))


def check_pod(template: Mapping[str, Any], path: str = "template") -> list[Problem]:
    """Every problem of a pod template (``metadata`` and ``spec``), with paths below ``path``."""
    field = Field(template, path)
    return [*_shape(field, "PodTemplateSpec"), *nulls(field), *_pod(field)]


def _check(manifest: Field, kind: str, gates: frozenset[str]) -> Iterator[Problem]:
    yield from _shape(manifest, kind)
    yield from names.named(manifest)
    if kind == "RayService":
        for service_rule in (*service.RULES, *serve_config.RULES):
            yield from service_rule(manifest)
    if kind == "RayCronJob":
        yield from features.cron_gate((manifest["kind"], gates))
        for cron_rule in cron.RULES:
            yield from cron_rule(manifest)
    if (spec := _job(manifest, kind)) is not None:
        for job_rule in job.RULES:
            yield from job_rule(Job(spec))
        if spec["submitterPodTemplate"].given:
            yield from _pod(spec["submitterPodTemplate"])
    if (cluster := _cluster(manifest, kind, gates)) is not None:
        for cluster_rule in _CLUSTER_RULES:
            yield from cluster_rule(cluster)
        for group in cluster.groups:
            yield from _pod(group.template)
    yield from nulls(manifest)


def _job(manifest: Field, kind: str) -> Field | None:
    if kind == "RayCronJob":
        return manifest["spec"]["jobTemplate"]
    return manifest["spec"] if kind == "RayJob" else None


def _cluster(manifest: Field, kind: str, gates: frozenset[str]) -> RayCluster | None:
    metadata = manifest["metadata"]
    # The operator makes up the names of clusters that it starts for another object.
    name = metadata["name"].text if kind == "RayCluster" else ""
    # It copies a RayCronJob's template, not its annotations.
    annotations = Field(None, "") if kind == "RayCronJob" else metadata["annotations"]
    spec = {
        "RayCluster": manifest["spec"],
        "RayService": manifest["spec"]["rayClusterConfig"],
        "RayJob": manifest["spec"]["rayClusterSpec"],
        "RayCronJob": manifest["spec"]["jobTemplate"]["rayClusterSpec"],
    }[kind]
    return RayCluster(spec, kind, name, annotations, gates) if spec.given else None


def _pod(template: Field) -> Iterator[Problem]:
    for pod_rule in _POD_RULES:
        yield from pod_rule(Pod(template))


def _shape(field: Field, kind: str) -> Iterator[Problem]:
    return _fields((field, kind))


@rule(None, "fields")
def _fields(shaped: tuple[Field, str]) -> Iterator[Problem]:
    field, kind = shaped
    version = field["apiVersion"]
    if kind != "PodTemplateSpec" and version.given and version.value != RAY_API:
        yield version.problem(f"{version.shown} is not {RAY_API}.", f"Write {RAY_API}.")
    yield from misshapen(field.value, kind, field.path)
