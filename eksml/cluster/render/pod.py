"""The pod templates of the head and of worker groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.image import arch_of, image_of
from eksml.cluster.mounts import SCRATCH_PATH
from eksml.cluster.placement import ZONE
from eksml.cluster.render.drain import drain_env, drain_hook, grace_s
from eksml.cluster.render.limits import protects
from eksml.cluster.render.merge import merged
from eksml.cluster.render.names import pod_labels, service_account
from eksml.cluster.render.resources import container_resources
from eksml.cluster.render.scheduling import (
    group_affinity,
    node_affinity,
    node_selector,
    spread,
    tolerations,
)
from eksml.cluster.render.security import container_security, pod_security
from eksml.cluster.render.volumes import Volume, mounted, worker_volumes
from eksml.cluster.sizing import PodSize, pod_size
from eksml.cluster.vocabulary import NO_NICENESS

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.spec import Cluster

HEAD_CONTAINER, WORKER_CONTAINER = "ray-head", "ray-worker"
"""Names of Ray's containers; a specification's ``pod`` lays its own fields over them by name."""

DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
_EFA_ENV = {
    "FI_PROVIDER": "efa",
    "FI_EFA_USE_DEVICE_RDMA": "1",
    # Data loaders fork
    "FI_EFA_FORK_SAFE": "1",
}
_SCRATCH_ENV = {
    # State of streams that has no room in memory, and what else is large for a while
    "TMPDIR": SCRATCH_PATH,
    # Ray's logs and sockets stay where whoever collects them looks
    "RAY_TMPDIR": "/tmp",
    # Weights that are fetched from S3 and from a hub
    "EKSML_HOME": f"{SCRATCH_PATH}/eksml",
    "HF_HOME": f"{SCRATCH_PATH}/huggingface",
}


def head_template(spec: Cluster) -> dict[str, Any]:
    """The head's pod: on demand, and left alone by Karpenter where the cluster is protected."""
    head, size = spec.head, pod_size(spec.head)
    volumes = mounted(spec, head.mounts)
    container = _container(spec, HEAD_CONTAINER, image_of(spec, head), size, volumes)
    container["env"] = _environment({**_region(spec), **NO_NICENESS, **spec.env, **head.env})
    pod: dict[str, Any] = {
        # Only the autoscaler speaks to Kubernetes' API; what users run has no business there
        "automountServiceAccountToken": spec.autoscaled,
        "affinity": {"nodeAffinity": node_affinity("on-demand", head.instances)},
        "nodeSelector": node_selector(spec, HEAD_GROUP, head.instances, arch_of(head)),
        "tolerations": tolerations(head.instances, head.tolerations),
    }
    template = _template(spec, container, volumes, pod, protected=spec.protected)
    return _hardened(spec, merged(template, head.pod))


def worker_template(spec: Cluster, group: WorkerGroup) -> dict[str, Any]:
    """The pod of one node of ``group``, which drains before it goes."""
    size = pod_size(group)
    volumes = worker_volumes(spec, group)
    container = _container(spec, WORKER_CONTAINER, image_of(spec, group), size, volumes)
    container["env"] = _environment(_worker_env(spec, group))
    if len(group.zones) != 1:
        container["env"].append(_zone_of_pod())
    container["lifecycle"] = drain_hook(spec.notice_s)
    pod = {
        "automountServiceAccountToken": False,
        "affinity": group_affinity(spec, group),
        "nodeSelector": node_selector(
            spec, group.name, group.instances, arch_of(group), group.zones, group.node_selector
        ),
        "tolerations": tolerations(group.instances, group.tolerations),
        "topologySpreadConstraints": spread(spec, group),
        "priorityClassName": group.priority_class,
        "terminationGracePeriodSeconds": grace_s(spec.notice_s),
    }
    # Not on spot: Karpenter does not evict such a pod when the instance is reclaimed, and without
    # an eviction there is no drain (karpenter-provider-aws#8276)
    protected = protects(spec, group.protected) and group.market != "spot"
    template = _template(spec, container, volumes, pod, protected=protected)
    return _hardened(spec, merged(template, group.pod))


def _template(
    spec: Cluster,
    container: dict[str, Any],
    volumes: Mapping[str, Volume],
    pod: Mapping[str, Any],
    *,
    protected: bool,
) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": pod_labels(spec)}
    if protected:
        metadata["annotations"] = {DO_NOT_DISRUPT: "true"}
    fields = {
        "containers": [container],
        "volumes": [volume.volume(name) for name, volume in volumes.items()],
        "restartPolicy": "Never",
        "serviceAccountName": service_account(spec),
        "securityContext": pod_security(spec),
        **pod,
    }
    return {"metadata": metadata, "spec": _filled(fields)}


def _container(
    spec: Cluster, name: str, image: str, size: PodSize, volumes: Mapping[str, Volume]
) -> dict[str, Any]:
    fields = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": container_resources(size),
        "securityContext": container_security(spec),
        "volumeMounts": [
            mount for name, volume in volumes.items() for mount in volume.mounts(name)
        ],
    }
    return _filled(fields)


def _hardened(spec: Cluster, template: dict[str, Any]) -> dict[str, Any]:
    """Give containers that ``pod`` adds what «restricted» asks of each, where they say nothing."""
    asked = container_security(spec)
    pod = template["spec"]
    for field in ("initContainers", "containers"):
        if field in pod:
            pod[field] = [
                container
                | _filled({"securityContext": merged(asked, container.get("securityContext", {}))})
                for container in pod[field]
            ]
    return template


def _region(spec: Cluster) -> dict[str, str]:
    """Where AWS's libraries look: pods do not reach the metadata service, which would tell."""
    return {"AWS_REGION": spec.region, "AWS_DEFAULT_REGION": spec.region}


def _worker_env(spec: Cluster, group: WorkerGroup) -> dict[str, str]:
    own = drain_env(spec.notice_s)
    own |= (_EFA_ENV if group.efa else {}) | (_SCRATCH_ENV if group.scratch else {})
    return {**_region(spec), **NO_NICENESS, **own, **spec.env, **group.env}


def _zone_of_pod() -> dict[str, Any]:
    """Ray's label of the zone where the scheduler chooses it. Kubernetes copies the node's onto the
    pod from 1.35 on; before, the variable is empty, and Ray goes without."""
    field = {"fieldPath": f"metadata.labels['{ZONE}']"}
    return {"name": "RAY_NODE_ZONE", "valueFrom": {"fieldRef": field}}


def _environment(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in variables.items()]


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not said: null, and empty lists and mappings."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [], "")}
