"""Whether a role's trust policy lets a service account take it. Pure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

POD_IDENTITY = "pods.eks.amazonaws.com"

_NAMESPACE = ("aws:RequestTag/kubernetes-namespace",)
_ACCOUNT = ("aws:RequestTag/kubernetes-service-account",)


def pod_identity_gap(policy: Mapping[str, Any], namespace: str, account: str) -> str:
    """What the trust policy lacks for EKS Pod Identity; empty if nothing."""
    allowed = [
        one for one in _allowing(policy) if POD_IDENTITY in _texts(_principal(one).get("Service"))
    ]
    if not allowed:
        return f"does not trust {POD_IDENTITY}"
    actions = {action for one in allowed for action in _texts(one.get("Action"))}
    if missing := [one for one in ("sts:AssumeRole", "sts:TagSession") if not _has(actions, one)]:
        return f"does not allow {' and '.join(missing)} to {POD_IDENTITY}"
    for one in allowed:
        if _holds(one, _NAMESPACE, namespace) and _holds(one, _ACCOUNT, account):
            return ""
    return f"has a condition that excludes {namespace}/{account}"


def irsa_gap(policy: Mapping[str, Any], issuer: str, namespace: str, account: str) -> str:
    """What the trust policy lacks for IRSA with the cluster's OIDC ``issuer``; empty if nothing."""
    provider = issuer.removeprefix("https://")
    allowed = [
        one
        for one in _allowing(policy)
        if any(
            arn.endswith(f"oidc-provider/{provider}")
            for arn in _texts(_principal(one).get("Federated"))
        )
        and _has(_texts(one.get("Action")), "sts:AssumeRoleWithWebIdentity")
    ]
    if not allowed:
        return f"does not trust the cluster's identity provider {provider}"
    subject = f"system:serviceaccount:{namespace}:{account}"
    if any(_holds(one, (f"{provider}:sub",), subject) for one in allowed):
        return ""
    return f"has a condition that excludes {subject}"


def _allowing(policy: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    statements = policy.get("Statement") or ()
    if isinstance(statements, Mapping):
        statements = (statements,)
    yield from (one for one in statements if one.get("Effect") == "Allow")


def _principal(statement: Mapping[str, Any]) -> Mapping[str, Any]:
    found = statement.get("Principal")
    return found if isinstance(found, Mapping) else {}


def _holds(statement: Mapping[str, Any], keys: tuple[str, ...], value: str) -> bool:
    """Whether the conditions on these keys, if there are any, let ``value`` through."""
    for operator, conditions in (statement.get("Condition") or {}).items():
        for key, wanted in conditions.items():
            if key not in keys:
                continue
            if not any(_like(operator, pattern, value) for pattern in _texts(wanted)):
                return False
    return True


def _like(operator: str, pattern: str, value: str) -> bool:
    return fnmatch.fnmatchcase(value, pattern) if "Like" in operator else pattern == value


def _has(actions: Iterable[str], action: str) -> bool:
    return any(fnmatch.fnmatchcase(action.lower(), allowed.lower()) for allowed in actions)


def _texts(value: Any) -> tuple[str, ...]:
    """IAM writes one text or a list of them."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(value)
