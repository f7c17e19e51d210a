"""Volumes of a pod, and where its container mounts them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.cluster.mounts import SCRATCH_PATH, ClaimMount, FsxMount, Mount, S3Mount, SecretMount
from eksml.cluster.quantity import format_bytes
from eksml.cluster.render.names import s3_claim

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.spec import Cluster


@dataclass(frozen=True)
class Volume:
    """One source, and all places where it appears."""

    source: dict[str, Any]
    paths: list[dict[str, Any]]

    def volume(self, name: str) -> dict[str, Any]:
        """The entry of ``spec.volumes``."""
        return {"name": name, **self.source}

    def mounts(self, name: str) -> list[dict[str, Any]]:
        """The entries of the container's ``volumeMounts``."""
        return [{"name": name, **path} for path in self.paths]


def worker_volumes(spec: Cluster, group: WorkerGroup) -> dict[str, Volume]:
    """By name: shared memory and scratch of the group, then the mounts."""
    own: dict[str, Volume] = {}
    if group.shm:
        # In the place of the operator's, which is as large as the pod's memory
        shm = {"medium": "Memory", "sizeLimit": str(format_bytes(group.shm))}
        own["shm"] = Volume({"emptyDir": shm}, [{"mountPath": "/dev/shm"}])
    if group.scratch:
        # Lies on NVMe where the node's local disks are the kubelet's (Karpenter's and EKS's RAID 0)
        scratch = {"sizeLimit": str(format_bytes(group.scratch))}
        own["scratch"] = Volume({"emptyDir": scratch}, [{"mountPath": SCRATCH_PATH}])
    return own | mounted(spec, group.mounts)


def mounted(spec: Cluster, more: Iterable[Mount]) -> dict[str, Volume]:
    """The cluster's mounts and ``more``, by the name of their volume.

    One volume for each source: a claim that is mounted at two paths is attached once.
    """
    volumes: dict[str, Volume] = {}
    for mount in (*spec.mounts, *more):
        source = _source(spec, mount)
        path = {"mountPath": mount.path} | ({"readOnly": True} if _read_only(mount) else {})
        volumes.setdefault(repr(source), Volume(source, [])).paths.append(path)
    return {f"mount-{index}": volume for index, volume in enumerate(volumes.values())}


def _source(spec: Cluster, mount: Mount) -> dict[str, Any]:
    match mount:
        case SecretMount():
            return {"secret": {"secretName": mount.secret}}
        case S3Mount():
            return {"persistentVolumeClaim": {"claimName": s3_claim(spec, mount)}}
        case FsxMount() | ClaimMount():
            return {"persistentVolumeClaim": {"claimName": mount.claim}}


def _read_only(mount: Mount) -> bool:
    return isinstance(mount, SecretMount) or mount.read_only
