"""Manifests as people write them, and a way to break one field of them."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

from eksml.cluster.rules import Violation, check

Manifest = dict[str, Any]

LEFT_OUT = object()
"""For ``changed``: the field is not there."""


def container(*, image: str = "rayproject/ray:2.60.0-py311", **limits: Any) -> Manifest:
    amounts = {"cpu": "4", "memory": "16Gi", **limits}
    return {"name": "ray", "image": image, "resources": {"limits": amounts}}


def template(**limits: Any) -> Manifest:
    return {"spec": {"containers": [container(**limits)]}}


def group(name: str = "workers", **fields: Any) -> Manifest:
    own = {
        "groupName": name,
        "replicas": 1,
        "minReplicas": 0,
        "maxReplicas": 4,
        "rayStartParams": {},
        "template": template(),
    }
    return own | fields


def cluster_spec(*groups: Manifest, **fields: Any) -> Manifest:
    """An autoscaled cluster (v2) with token authentication."""
    own = {
        "rayVersion": "2.60.0",
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 300},
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": template()},
        "workerGroupSpecs": list(groups) or [group()],
    }
    return own | fields


def ray_cluster(*groups: Manifest, **fields: Any) -> Manifest:
    return _object("RayCluster", "team-a", cluster_spec(*groups, **fields))


def ray_job(**fields: Any) -> Manifest:
    return _object("RayJob", "train", job_spec(**fields))


def job_spec(**fields: Any) -> Manifest:
    own = {"entrypoint": "python train.py", "rayClusterSpec": cluster_spec()}
    return own | fields


def ray_service(**fields: Any) -> Manifest:
    own = {
        "serveConfigV2": "applications:\n- name: chat\n  import_path: chat:app\n",
        "rayClusterConfig": cluster_spec(),
        "upgradeStrategy": {
            "type": "NewClusterWithIncrementalUpgrade",
            "clusterUpgradeOptions": {
                "maxSurgePercent": 20,
                "stepSizePercent": 10,
                "intervalSeconds": 10,
                "gatewayClassName": "istio",
            },
        },
    }
    return _object("RayService", "chat", own | fields)


def ray_cron_job(**fields: Any) -> Manifest:
    own = {"schedule": "30 2 * * mon-fri", "timeZone": "Europe/Berlin", "jobTemplate": job_spec()}
    return _object("RayCronJob", "nightly", own | fields)


def _object(kind: str, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "ray.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def changed(manifest: Manifest, path: str, value: Any) -> Manifest:
    """A copy with the field at ``path`` set, the mappings on the way made as needed."""
    copied = copy.deepcopy(manifest)
    *way, last = path.split(".")
    at: Any = copied
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
    if value is LEFT_OUT:
        del at[last]
    elif isinstance(at, list):
        at[int(last)] = value
    else:
        at[last] = value
    return copied


def accepted(manifest: Manifest, gates: Collection[str] = ()) -> bool:
    """Whether there is no problem (and none is shown if there is)."""
    return [str(problem) for problem in check(manifest, gates=gates)] == []


def refusals(manifest: Manifest, gates: Collection[str] = ()) -> set[tuple[str, str]]:
    """What is wrong, as pairs of rule and path. Every problem carries the rule that found it."""
    found = check(manifest, gates=gates)
    assert all(isinstance(problem, Violation) and problem.message for problem in found)
    return {(problem.rule, problem.path) for problem in found if isinstance(problem, Violation)}
