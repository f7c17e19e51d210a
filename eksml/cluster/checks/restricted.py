"""More fields of a pod that the Pod Security Standard «restricted» forbids.

Where a namespace enforces it, such pods are never created, and the group waits for ever. What
eksml writes itself obeys it, so that only what ``pod`` of a head or group says can break it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from eksml.cluster.checks.cluster import nodes
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

Found = Iterator[tuple[str, str]]
"""Paths below the pod's ``spec``, and what is forbidden there."""

_VOLUMES = {
    "name",
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = ("RuntimeDefault", "Localhost")
_SELINUX = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
_REMEDY = "Leave it out, or say security.restricted: false."


def problems(cluster: Cluster) -> Iterator[Problem]:
    """All of them; none where the cluster is not restricted."""
    if not cluster.security.restricted:
        return
    for path, node in nodes(cluster):
        for at, what in _pod(_mapping(node.pod.get("spec"))):
            told = f"{what}, which «restricted» forbids."
            yield Problem(f"{path}.pod.spec.{at}", told, _REMEDY)


def _pod(spec: Mapping[str, Any]) -> Found:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field, "shares the host's own"
    for index, volume in _listed(spec.get("volumes")):
        for kind in volume.keys() - _VOLUMES:
            yield f"volumes.{index}.{kind}", "is not a volume of a pod's own"
    for at, what in _context(_mapping(spec.get("securityContext"))):
        yield f"securityContext.{at}", what
    for field in ("containers", "initContainers"):
        for index, container in _listed(spec.get(field)):
            for at, what in _container(container):
                yield f"{field}.{index}.{at}", what


def _context(context: Mapping[str, Any]) -> Found:
    """What pods and containers have in common."""
    if context.get("runAsNonRoot") is False:
        yield "runAsNonRoot", "lets it run as root"
    if context.get("runAsUser") == 0:
        yield "runAsUser", "is root"
    if "seccompProfile" in context and _type(context, "seccompProfile") not in _SECCOMP:
        yield "seccompProfile", "allows every system call"
    if _type(context, "appArmorProfile") == "Unconfined":
        yield "appArmorProfile", "confines nothing"
    linux = _mapping(context.get("seLinuxOptions"))
    if linux.get("user") or linux.get("role") or linux.get("type", "") not in _SELINUX:
        yield "seLinuxOptions", "changes what SELinux allows"


def _container(container: Mapping[str, Any]) -> Found:
    context = _mapping(container.get("securityContext"))
    for at, what in _context(context):
        yield f"securityContext.{at}", what
    if context.get("privileged"):
        yield "securityContext.privileged", "is all that the host may"
    if context.get("procMount", "Default") != "Default":
        yield "securityContext.procMount", "shows more than is its own"
    if context.get("allowPrivilegeEscalation"):
        yield "securityContext.allowPrivilegeEscalation", "lets it become more than it is"
    capabilities = _mapping(context.get("capabilities"))
    if "ALL" not in capabilities.get("drop", ["ALL"]):
        yield "securityContext.capabilities.drop", "does not drop ALL"
    if set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
        yield "securityContext.capabilities.add", "adds capabilities"
    for index, port in _listed(container.get("ports")):
        if port.get("hostPort"):
            yield f"ports.{index}.hostPort", "takes a port of the host"


def _type(context: Mapping[str, Any], field: str) -> Any:
    return _mapping(context.get(field)).get("type")


def _mapping(value: Any) -> Mapping[str, Any]:
    """What is no mapping is refused where the manifest is checked as a Pod."""
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    if isinstance(value, list):
        yield from ((index, _mapping(item)) for index, item in enumerate(value))
