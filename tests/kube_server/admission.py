"""What the fake refuses: schemas of KubeRay's CRDs, pods that are none, missing namespaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from cluster.crd import violations

from kube_server.store import Store, Thing

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SERVER_SIDE = (
    *("uid", "resourceVersion", "generation", "creationTimestamp"),
    *("deletionTimestamp", "managedFields"),
)


class Refusal(Exception):
    """An answer that is no success, as a ``Status``."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        causes: list[dict[str, str]] | None = None,
        kind: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: Thing = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "reason": reason,
            "details": {"kind": kind, "causes": causes or []},
            "code": status,
        }


def check(thing: Thing, store: Store) -> None:
    """Refuse what an API server with KubeRay's CRDs would.

    Raises:
        Refusal: 404 for a namespace that is not there, 422 for everything that is wrong.
    """
    namespace = thing["metadata"].get("namespace")
    if namespace and store.get(("v1", "Namespace", "", namespace)) is None:
        told = f'namespaces "{namespace}" not found'
        raise Refusal(404, "NotFound", told, kind="namespaces")
    problems: list[tuple[str, str]] = []
    if thing["apiVersion"] == "ray.io/v1":
        plain = {key: value for key, value in thing.items() if key != "status"}
        plain["metadata"] = {
            key: value for key, value in thing["metadata"].items() if key not in _SERVER_SIDE
        }
        problems = [_split(told) for told in violations(plain)]
    elif thing["kind"] == "Pod":
        problems = list(_pod(thing["spec"]))
        _service_account(thing, store)
    if problems:
        name = thing["metadata"]["name"]
        listed = ", ".join(f"{field}: {told}" for field, told in problems)
        raise Refusal(
            422,
            "Invalid",
            f'{thing["kind"]} "{name}" is invalid: {listed}',
            [{"reason": "FieldValueInvalid", "field": f, "message": m} for f, m in problems],
        )


def _split(told: str) -> tuple[str, str]:
    field, _, message = told.partition(": ")
    return field, message


def _service_account(pod: Thing, store: Store) -> None:
    name = pod["spec"].get("serviceAccountName", "default")
    namespace = pod["metadata"]["namespace"]
    if name != "default" and not store.get(("v1", "ServiceAccount", namespace, name)):
        told = f'error looking up service account {namespace}/{name}: serviceaccount "{name}" '
        named = f'pods "{pod["metadata"]["name"]}" is forbidden: {told}not found'
        raise Refusal(403, "Forbidden", named)


def _pod(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if not spec.get("containers"):
        yield "spec.containers", "Required value"
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            path = f"spec.{field}[{index}]"
            for mount in container.get("volumeMounts") or ():
                if mount["name"] not in volumes:
                    yield f"{path}.volumeMounts", f'Not found: "{mount["name"]}"'
            yield from _extended(container.get("resources") or {}, f"{path}.resources")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        effect = toleration.get("effect")
        if effect and effect not in _EFFECTS:
            yield f"spec.tolerations[{index}].effect", f'Unsupported value: "{effect}"'


def _extended(resources: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name in {*limits, *requests}:
        if "/" not in name:
            continue
        if name not in limits:
            yield f"{path}.limits", f"Limit must be set for non overcommitable resources: {name}"
        elif str(requests.get(name, limits[name])) != str(limits[name]):
            yield f"{path}.requests", f"must be equal to {name} limit"
        if not re.fullmatch(r"\d+", str(limits.get(name, requests.get(name)))):
            yield f"{path}.limits[{name}]", "must be an integer"
