"""Pod Security Standard «restricted», and what the pods' identity is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.storage import RAY_UID

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster


def pod_security(spec: Cluster) -> dict[str, Any]:
    """The ``securityContext`` of a pod; empty where pods are not restricted.

    The user is said by number, since the kubelet cannot tell whether a user known only by the name
    in an image is root. No group is said: the image's own counts, as its files are that group's.
    ``fsGroup`` makes volumes of blocks and empty directories writable; network file systems keep
    their owners, and ``OnRootMismatch`` keeps a large volume from being walked at every start.
    """
    if not spec.security.restricted:
        return {}
    return {
        "runAsNonRoot": True,
        "runAsUser": RAY_UID,
        "fsGroup": RAY_UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security(spec: Cluster) -> dict[str, Any]:
    """The ``securityContext`` of a container; empty where pods are not restricted.

    EFA locks memory, and no capability is added for that: «restricted» forbids ``IPC_LOCK``, and
    in a process that is not root it would have no effect. What counts is the limit that the node's
    container runtime hands down; it must be unlimited there (``ulimit -l`` in a pod tells).
    """
    if not spec.security.restricted:
        return {}
    return {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
