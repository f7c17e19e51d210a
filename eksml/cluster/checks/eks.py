"""What cannot be on EKS under KubeRay, though each field by itself is well-formed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from eksml.cluster.checks import images, restricted, sizes
from eksml.cluster.checks.cluster import nodes
from eksml.cluster.placement import EKS_NODEGROUP, KARPENTER_NODEPOOL
from eksml.cluster.rules.quantity import amount
from eksml.cluster.sizing import pod_size
from eksml.cluster.vocabulary import ROCKSDB_GATE
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

Version = tuple[int, ...]

OPERATOR_LEAST = (1, 7)
"""The KubeRay whose fields and rules eksml knows."""
RAY_LEAST_FOR_TOKENS = (2, 52)
RAY_LEAST_FOR_PRIORITY = (2, 56)
NOTICE_MOST_S = 100
"""EC2 reclaims spot nodes 120 s after the notice; the rest is for the kubelet to hear of it and for
the pod to end."""

_PLAIN_NAME = re.compile(r"[\w.:/-]+", re.ASCII)
_SET_BY_KUBERAY = {
    "RAY_REDIS_ADDRESS": "head_state.redis_address",
    "REDIS_PASSWORD": "head_state.redis_secret",
    "REDIS_USERNAME": "head_state",
    "RAY_external_storage_namespace": "head_state",
    "RAY_gcs_storage": "head_state",
    "RAY_gcs_storage_path": "head_state",
    "RAY_enable_autoscaler_v2": "autoscaling",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "notice_s",
    "RAY_CLUSTER_NAME": "name",
    "RAY_CLOUD_INSTANCE_ID": "the operator",
    "RAY_NODE_TYPE_NAME": "the operator",
    "RAY_PORT": "the operator",
    "RAY_IP": "the operator",
    "FQ_RAY_IP": "the operator",
    "KUBERAY_GEN_RAY_START_CMD": "the operator",
    "AWS_ROLE_ARN": "identity.role_arn",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "identity",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "identity",
}


def problems(cluster: Cluster) -> Iterator[Problem]:
    """All of them."""
    yield from _sizes(cluster)
    yield from _versions(cluster)
    yield from _autoscaling(cluster)
    yield from _environment(cluster)
    yield from _resources(cluster)
    yield from _zones(cluster)
    yield from _notice(cluster)
    yield from _reservations(cluster)
    yield from _state(cluster)
    yield from images.problems(cluster)
    yield from restricted.problems(cluster)
    yield from _quota(cluster)


def version_of(text: str) -> Version:
    """``2.60.0rc1`` as ``(2, 60, 0)``."""
    return tuple(int(part.partition("rc")[0]) for part in text.partition("-")[0].split("."))


def _sizes(cluster: Cluster) -> Iterator[Problem]:
    for path, node in nodes(cluster):
        for problem in sizes.problems(node):
            yield Problem(f"{path}.{problem.path}", problem.message, problem.remedy)


def _versions(cluster: Cluster) -> Iterator[Problem]:
    if version_of(cluster.ray) < RAY_LEAST_FOR_TOKENS:
        told = f"{cluster.ray} knows no token authentication, which is always on."
        yield Problem("ray_version", told, "Use 2.52.0 or newer.")
    if version_of(cluster.operator.version) < OPERATOR_LEAST:
        told = f"{cluster.operator.version} lacks fields that eksml writes."
        yield Problem("operator.version", told, "Use KubeRay 1.7.0 or newer.")


def _autoscaling(cluster: Cluster) -> Iterator[Problem]:
    off = "has no effect, since nothing scales: every group has min = max."
    for index, group in enumerate(cluster.groups):
        path = f"groups.{index}"
        if group.idle_timeout_s is not None and not cluster.autoscaled:
            yield Problem(f"{path}.idle_timeout_s", off, "Leave it out, or let nodes vary.")
        if not group.priority:
            continue
        if not cluster.autoscaled:
            yield Problem(f"{path}.priority", off, "Leave it out, or let nodes vary.")
        elif version_of(cluster.ray) < RAY_LEAST_FOR_PRIORITY:
            told = f"{group.priority} needs Ray 2.56, and this is {cluster.ray}."
            yield Problem(f"{path}.priority", told, "Leave it out, or use a newer Ray.")


def _environment(cluster: Cluster) -> Iterator[Problem]:
    places = [("env", cluster.env)]
    places += [(f"{path}.env", node.env) for path, node in nodes(cluster)]
    for path, env in places:
        for name in env.keys() & _SET_BY_KUBERAY.keys():
            told = f"is set from {_SET_BY_KUBERAY[name]}."
            yield Problem(f"{path}.{name}", told, "Leave it out.")


def _resources(cluster: Cluster) -> Iterator[Problem]:
    """On EKS they pass through a shell, as JSON in an option of ``ray start``."""
    for path, node in nodes(cluster):
        for name in node.resources:
            if not _PLAIN_NAME.fullmatch(name):
                told = f"{name!r} cannot be given to Ray by KubeRay."
                yield Problem(f"{path}.resources.{name}", told, "Use letters, digits and _ . : / -")


def _zones(cluster: Cluster) -> Iterator[Problem]:
    for index, group in enumerate(cluster.groups):
        for at, zone in enumerate(group.zones):
            if not zone.startswith(cluster.region):
                told = f"{zone!r} is not in {cluster.region}."
                yield Problem(f"groups.{index}.zones.{at}", told, "Change zones or region.")


def _notice(cluster: Cluster) -> Iterator[Problem]:
    spot = any(group.market == "spot" for group in cluster.groups)
    if spot and cluster.notice_s > NOTICE_MOST_S:
        told = f"{cluster.notice_s} s are more than a spot node is left with."
        yield Problem("notice_s", told, f"Write at most {NOTICE_MOST_S}.")


def _reservations(cluster: Cluster) -> Iterator[Problem]:
    for index, group in enumerate(cluster.groups):
        elsewhere = {KARPENTER_NODEPOOL, EKS_NODEGROUP} & group.node_selector.keys()
        ours = cluster.karpenter is not None and not elsewhere
        if ours and group.market == "reserved" and not group.capacity_reservation:
            told = "is missing: Karpenter must know which reservation to use."
            yield Problem(f"groups.{index}.capacity_reservation", told, "Write its id, cr-….")


def _state(cluster: Cluster) -> Iterator[Problem]:
    state = cluster.head_state
    if state and state.store == "rocksdb" and ROCKSDB_GATE not in cluster.operator.gates:
        told = f"rocksdb needs the operator's feature gate {ROCKSDB_GATE}, which is off."
        remedy = "Add it to operator.gates if the operator has it, or use redis."
        yield Problem("head_state.store", told, remedy)


def _quota(cluster: Cluster) -> Iterator[Problem]:
    """Pods beyond the quota are never created; here only those that the cluster starts with."""
    if cluster.quota is None or any(True for _ in _sizes(cluster)):
        return
    needed = _first_pods(cluster)
    for key, limit in cluster.quota.limits.items():
        resource = key.removeprefix("requests.").removeprefix("limits.")
        if needed.get(resource, 0) > (amount(limit) or 0):
            told = f"{limit}, but the cluster starts with {float(needed[resource]):g}."
            yield Problem(f"quota.limits.{key}", told, "Raise it, or start with fewer nodes.")


def _first_pods(cluster: Cluster) -> Mapping[str, Fraction]:
    """What the head and the first workers request together, by Kubernetes' names."""
    counted = [(1, pod_size(cluster.head).requests())]
    counted += [(group.initial_nodes, pod_size(group).requests()) for group in cluster.groups]
    needed: defaultdict[str, Fraction] = defaultdict(Fraction)
    for count, requests in counted:
        for name, quantity in ({"pods": "1"} | requests).items():
            needed[name] += count * (amount(quantity) or 0)
    return needed
