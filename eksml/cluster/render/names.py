"""The names on which objects that refer to each other agree.

A pod template mounts the claim that :mod:`eksml.cluster.render.storage` makes, the network policy
selects the label that the pod template carries: both sides ask here.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eksml.cluster.mounts import S3Mount
    from eksml.cluster.spec import Cluster

MANAGED_BY = "app.kubernetes.io/managed-by"
INSTANCE = "app.kubernetes.io/instance"
RAY_CLUSTER = "ray.io/cluster"

_LONGEST = 63
_DIGEST = 6


def object_labels(spec: Cluster) -> dict[str, str]:
    """Labels of every object around a cluster, so that one selector finds and deletes them all."""
    return {INSTANCE: spec.name, MANAGED_BY: "eksml"}


def pod_labels(spec: Cluster) -> dict[str, str]:
    """Labels of every Ray pod; network policy, disruption budget and monitor select by them.

    Not ``ray.io/cluster``: the operator sets it to the RayCluster's name, and a RayJob or
    RayService makes clusters with names of its own that nobody knows beforehand.
    """
    return object_labels(spec)


def namespaced(spec: Cluster, name: str) -> dict[str, Any]:
    """The ``metadata`` of an object in the cluster's namespace."""
    return {"name": name, "namespace": spec.namespace, "labels": object_labels(spec)}


def cluster_wide(spec: Cluster, name: str) -> dict[str, Any]:
    """The ``metadata`` of an object that belongs to no namespace."""
    return {"name": name, "labels": object_labels(spec)}


def service_account(spec: Cluster) -> str:
    """The service account of all pods."""
    return spec.identity.service_account or spec.name


def s3_claim(spec: Cluster, mount: S3Mount) -> str:
    """The PersistentVolumeClaim of an S3 mount; equal mounts of several groups share one.

    Made from what is mounted, not from where: two groups may mount two buckets at one path. The
    digest keeps apart what the readable part cannot, such as ``a.b`` and ``a-b``.
    """
    exact = f"{spec.name}\n{mount.bucket}\n{mount.prefix or ''}\n{mount.read_only}"
    digest = hashlib.sha256(exact.encode()).hexdigest()[:_DIGEST]
    readable = re.sub(r"[^a-z0-9]+", "-", mount.bucket.lower()).strip("-")
    return f"{_cut(f'{spec.name}-{readable}', _LONGEST - _DIGEST - 1)}-{digest}"


def s3_volume(spec: Cluster, mount: S3Mount) -> str:
    """The PersistentVolume of an S3 mount: not of a namespace, hence with its name in front."""
    return f"{spec.namespace}.{s3_claim(spec, mount)}"


def part(spec: Cluster, of: str) -> str:
    """An object for one part of a cluster, such as a group. The dot keeps it apart from a cluster
    whose name goes on with a dash."""
    return f"{spec.name}.{of}"


def node_pool(spec: Cluster, group: str) -> str:
    """Karpenter's NodePool and EC2NodeClass of a group: not of a namespace.

    Dots between the parts, which have none: with dashes, group ``c`` of ``a-b`` and group ``b-c``
    of ``a`` would share a pool, and overwrite each other in silence. At most 63 characters, for it
    is also the value of the label ``karpenter.sh/nodepool``.
    """
    name = f"{spec.namespace}.{part(spec, group)}"
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST]
    return f"{_cut(name, _LONGEST - _DIGEST - 1)}-{digest}"


def _cut(text: str, longest: int) -> str:
    return text[:longest].rstrip("-.")
