"""Storage that appears in the file system of nodes."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from eksml.cluster.names import ObjectName
from eksml.cluster.problems import Spec

SCRATCH_PATH = "/mnt/scratch"
"""Where a group's ``scratch`` appears. Temporary files and fetched weights lie there, too."""

_TAKEN = {
    "/dev/shm": "Ray's shared memory",
    "/etc": "the system",
    "/bin": "the system",
    "/lib": "the system",
    "/sbin": "the system",
    "/usr": "the system",
    "/home/ray/anaconda3": "Ray's own Python",
    "/tmp/ray": "Ray's logs",
    "/var/run/secrets": "the pod's identity",
    SCRATCH_PATH: "scratch",
}
_CLOSED = ("/dev", "/proc", "/sys", "/tmp/ray", "/var/run/secrets", SCRATCH_PATH)
"""Places of which not even a folder inside is free."""
_BUCKET = re.compile(r"[a-z0-9][-a-z0-9.]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"(\d+\.){3}\d+")


def within(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _mount_path(path: str) -> str:
    if not path.startswith("/") or posixpath.normpath(path) != path or path.startswith("//"):
        raise ValueError("not an absolute path without '.', '..' and a '/' at its end")
    if ":" in path or "\0" in path:
        raise ValueError("a mount path cannot hold ':' or NUL")
    for taken, what in _TAKEN.items():
        if within(taken, path):
            raise ValueError(f"would hide {taken}, {what}; choose such as /data")
    if any(within(path, folder) for folder in _CLOSED):
        raise ValueError("is the system's own; choose such as /data")
    return path


def _bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name):
        raise ValueError("not the name of a bucket: 3 to 63 of a–z, 0–9, '-' and '.'; no s3://")
    return name


def _prefix(prefix: str) -> str:
    if prefix.startswith("/") or not prefix.endswith("/") or "//" in prefix:
        raise ValueError("Mountpoint for S3 wants a prefix that ends with '/' and begins without")
    return prefix


MountPath = Annotated[str, AfterValidator(_mount_path)]


class _Mount(Spec):
    kind: Any

    @model_serializer(mode="wrap")
    def _with_kind(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # ``kind`` tells which mount it is, so it is written although it is a default
        written: dict[str, Any] = fields(self)
        return {"kind": self.kind} | written


class FsxMount(_Mount):
    """A file system of FSx for Lustre, through a claim that is there already."""

    kind: Literal["fsx"] = "fsx"
    """``fsx``."""
    claim: ObjectName
    """The PersistentVolumeClaim, of driver ``fsx.csi.aws.com``, ReadWriteMany."""
    path: MountPath
    """Where it appears."""
    read_only: bool = False
    """Whether writing is refused."""


class S3Mount(_Mount):
    """A bucket, through Mountpoint for S3. eksml makes the claim."""

    kind: Literal["s3"] = "s3"
    """``s3``."""
    bucket: Annotated[str, AfterValidator(_bucket)]
    """The bucket's name, without ``s3://``."""
    path: MountPath
    """Where it appears."""
    read_only: bool = True
    """Whether writing is refused. Mountpoint writes new files only, from beginning to end."""
    prefix: Annotated[str, AfterValidator(_prefix)] | None = None
    """Only what lies under it, such as ``datasets/``. None: the whole bucket."""


class ClaimMount(_Mount):
    """Any PersistentVolumeClaim that is there already."""

    kind: Literal["claim"] = "claim"
    """``claim``."""
    claim: ObjectName
    """The PersistentVolumeClaim. ReadWriteMany or ReadOnlyMany if more than one node mounts it."""
    path: MountPath
    """Where it appears."""
    read_only: bool = False
    """Whether writing is refused."""


class SecretMount(_Mount):
    """The keys of a Secret, as files."""

    kind: Literal["secret"] = "secret"
    """``secret``."""
    secret: ObjectName
    """The Secret."""
    path: MountPath
    """Where its files appear; always read-only."""


Mount = Annotated[FsxMount | S3Mount | ClaimMount | SecretMount, Field(discriminator="kind")]
