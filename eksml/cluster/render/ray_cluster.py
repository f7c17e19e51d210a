"""The RayCluster: head, worker groups, autoscaler, the head's state, authentication."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.quantity import format_bytes
from eksml.cluster.render.checked import checked
from eksml.cluster.render.metadata import metadata
from eksml.cluster.render.pod import head_template, worker_template
from eksml.cluster.render.resources import group_resources, group_start_params, head_start_params
from eksml.cluster.render.security import container_security
from eksml.cluster.sizing import pod_size
from eksml.cluster.vocabulary import RAY_API

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.options import Autoscaling, HeadState
    from eksml.cluster.spec import Cluster


def ray_cluster(spec: Cluster) -> dict[str, Any]:
    """The RayCluster of a specification, as a plain dict of one's own.

    Raises:
        InvalidSpec: it breaks a rule of KubeRay; with every problem, by the manifest's paths.
    """
    manifest = {
        "apiVersion": RAY_API,
        "kind": "RayCluster",
        "metadata": metadata(spec),
        "spec": cluster_spec(spec),
    }
    return checked(spec, manifest)


def cluster_spec(spec: Cluster) -> dict[str, Any]:
    """The ``spec`` of a RayCluster: also the middle of a RayJob and of a RayService."""
    made: dict[str, Any] = {"rayVersion": spec.ray, "authOptions": _auth(spec)}
    if spec.scaling:
        made["enableInTreeAutoscaling"] = True
        made["autoscalerOptions"] = _autoscaler(spec, spec.scaling)
    if spec.state:
        made["gcsFaultToleranceOptions"] = _head_state(spec.state)
    made["headGroupSpec"] = _head(spec)
    made["workerGroupSpecs"] = [_group(spec, group) for group in spec.groups]
    return made


def _auth(spec: Cluster) -> dict[str, str]:
    secret = spec.security.token_secret
    return {"mode": "token"} | ({"secretName": secret} if secret else {})


def _autoscaler(spec: Cluster, scaling: Autoscaling) -> dict[str, Any]:
    made: dict[str, Any] = {
        "version": "v2",
        "idleTimeoutSeconds": scaling.idle_timeout_s,
        "upscalingMode": scaling.upscaling.capitalize(),
    }
    if security := container_security(spec):
        made["securityContext"] = security
    return made


def _head_state(state: HeadState) -> dict[str, Any]:
    if state.store == "redis":
        made: dict[str, Any] = {"backend": "redis", "redisAddress": state.redis_address}
        if state.redis_secret:
            key = {"name": state.redis_secret, "key": "password"}
            made["redisPassword"] = {"valueFrom": {"secretKeyRef": key}}
        return made
    if state.claim:
        return {"backend": "rocksdb", "storage": {"claimName": state.claim}}
    storage = {"size": str(format_bytes(state.volume_bytes))}
    if state.storage_class:
        storage["storageClassName"] = state.storage_class
    return {"backend": "rocksdb", "storage": storage}


def _head(spec: Cluster) -> dict[str, Any]:
    return {
        "labels": spec.head.node_labels(),
        "rayStartParams": head_start_params(pod_size(spec.head), spec.head),
        "template": head_template(spec),
    }


def _group(spec: Cluster, group: WorkerGroup) -> dict[str, Any]:
    size = pod_size(group)
    least, most = group.nodes
    made: dict[str, Any] = {
        "groupName": group.name,
        # KubeRay counts replicas of ``numOfHosts`` nodes each
        "replicas": group.initial_nodes // group.hosts,
        "minReplicas": least // group.hosts,
        "maxReplicas": most // group.hosts,
    }
    if group.hosts > 1:
        made["numOfHosts"] = group.hosts
    if spec.autoscaled:
        made |= _scaling(group)
    return made | {
        "labels": group.node_labels(),
        "resources": group_resources(size, group),
        "rayStartParams": group_start_params(size),
        "template": worker_template(spec, group),
    }


def _scaling(group: WorkerGroup) -> dict[str, int]:
    made: dict[str, int] = {}
    if group.idle_timeout_s is not None:
        made["idleTimeoutSeconds"] = group.idle_timeout_s
    if group.priority:
        made["priority"] = group.priority
    return made
