"""Who the pods are, and what they may do: service account, autoscaler's role, token."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced, part, service_account
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

IRSA = "eks.amazonaws.com/role-arn"
TOKEN_KEY = "auth_token"
"""The key under which the operator looks for Ray's token in a Secret."""

_AUTOSCALER_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
]
"""What Ray's autoscaler asks of the API server: it sees pods, and writes its wishes down in the
RayCluster; the operator makes and deletes pods. Nothing here reads secrets or runs commands."""


def access(spec: Cluster) -> list[dict[str, Any]]:
    """The ServiceAccount of all pods; with autoscaling, the Role and RoleBinding it needs.

    EKS Pod Identity needs nothing here: its association lives in EKS, not in Kubernetes.
    """
    account: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": namespaced(spec, service_account(spec)),
    }
    if spec.identity.role_arn:
        account["metadata"]["annotations"] = {IRSA: spec.identity.role_arn}
    return [account, *_autoscaler(spec)]


def _autoscaler(spec: Cluster) -> list[dict[str, Any]]:
    if not spec.autoscaled:
        return []
    # Not the cluster's own name: under that one the operator makes a role by itself, but only for
    # a RayCluster it owns, and where it may hand out roles. This one is there in every case.
    name = part(spec, "autoscaler")
    group = "rbac.authorization.k8s.io"
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "Role",
        "metadata": namespaced(spec, name),
        "rules": [dict(rule) for rule in _AUTOSCALER_RULES],
    }
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": namespaced(spec, name),
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [
            {
                "kind": "ServiceAccount",
                "name": service_account(spec),
                "namespace": spec.namespace,
            }
        ],
    }
    return [role, binding]


def token_secret(spec: Cluster, token: str) -> dict[str, Any]:
    """The Secret that ``security.token_secret`` names, holding ``token``.

    Not among the surroundings: a specification lies in git and holds no token. Without
    ``security.token_secret`` the operator makes a token of its own.

    Raises:
        InvalidSpec: the specification names no Secret, or the token is empty or not one line.
    """
    problems = []
    if not spec.security.token_secret:
        problems.append(
            Problem(
                "security.token_secret",
                "names no Secret to hold the token; the operator makes one by itself.",
                "Name it, or give no token.",
            )
        )
    if not token or token != token.strip() or not token.isprintable():
        problems.append(
            Problem("token", "is empty, or has white space around it, or is not one line.")
        )
    if problems:
        raise InvalidSpec(problems, subject="the token's Secret")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": namespaced(spec, str(spec.security.token_secret)),
        "type": "Opaque",
        "data": {TOKEN_KEY: base64.b64encode(token.encode()).decode()},
    }
