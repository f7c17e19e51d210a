"""Volumes and claims behind the mounts of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.mounts import S3Mount
from eksml.cluster.render.names import cluster_wide, namespaced, s3_claim, s3_volume

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

S3_DRIVER = "s3.csi.aws.com"
RAY_UID, RAY_GID = 1000, 100
"""The user ``ray`` and its group in Ray's images; who else comes may read."""
_SIZE = "1Ti"
"""Kubernetes wants a size, Mountpoint ignores it: a bucket has none."""


def storage(spec: Cluster) -> list[dict[str, Any]]:
    """A PersistentVolume and a claim, bound to each other, for every bucket that is mounted.

    FSx, other claims and Secrets are mounted by the name that the specification gives, and exist
    before: they outlive any one cluster.
    """
    objects: dict[str, list[dict[str, Any]]] = {}
    for mount in _s3_mounts(spec):
        objects.setdefault(s3_claim(spec, mount), [_s3_volume(spec, mount), _s3_claim(spec, mount)])
    return [made for pair in objects.values() for made in pair]


def _s3_mounts(spec: Cluster) -> list[S3Mount]:
    groups = (mount for group in spec.groups for mount in group.mounts)
    every = (*spec.mounts, *spec.head.mounts, *groups)
    return [mount for mount in every if isinstance(mount, S3Mount)]


def _s3_volume(spec: Cluster, mount: S3Mount) -> dict[str, Any]:
    name = s3_volume(spec, mount)
    attributes = {"bucketName": mount.bucket}
    if spec.identity.pod_identity or spec.identity.role_arn:
        # The pods' own role instead of the driver's, which every pod of every team would share.
        attributes["authenticationSource"] = "pod"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": cluster_wide(spec, name),
        "spec": {
            "capacity": {"storage": _SIZE},
            "accessModes": [_mode(mount)],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
            "claimRef": {"namespace": spec.namespace, "name": s3_claim(spec, mount)},
            "mountOptions": _mount_options(spec, mount),
            "csi": {
                "driver": S3_DRIVER,
                "volumeHandle": name,
                "volumeAttributes": attributes,
            },
        },
    }


def _s3_claim(spec: Cluster, mount: S3Mount) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": namespaced(spec, s3_claim(spec, mount)),
        "spec": {
            "accessModes": [_mode(mount)],
            # Empty, not left out: left out means the default class, which would make a disk.
            "storageClassName": "",
            "resources": {"requests": {"storage": _SIZE}},
            "volumeName": s3_volume(spec, mount),
        },
    }


def _mode(mount: S3Mount) -> str:
    return "ReadOnlyMany" if mount.read_only else "ReadWriteMany"


def _mount_options(spec: Cluster, mount: S3Mount) -> list[str]:
    """Mountpoint's own options. Pods are not root, so others than the mounting user must enter."""
    options = ["allow-other", f"uid={RAY_UID}", f"gid={RAY_GID}", f"region {spec.region}"]
    if mount.prefix:
        options.append(f"prefix {mount.prefix.strip('/')}/")
    return [*options, *(["read-only"] if mount.read_only else ["allow-delete", "allow-overwrite"])]
