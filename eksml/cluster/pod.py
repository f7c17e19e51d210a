"""More fields of a pod template: the way out where eksml has no field of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from eksml.cluster.problems import Refused
from eksml.errors import Problem

_SAID_ELSEWHERE = {
    "metadata.name": "KubeRay names the pods",
    "metadata.generateName": "KubeRay names the pods",
    "metadata.namespace": "write the cluster's namespace",
    "spec.restartPolicy": "autoscaler v2 and drains need Never, which eksml writes",
    "spec.serviceAccountName": "write identity.service_account",
    "spec.serviceAccount": "write identity.service_account",
    "spec.nodeSelector": "write node_selector, zones, instance or market",
    "spec.nodeName": "it goes past the scheduler; write instance or node_selector",
    "spec.priorityClassName": "write priority_class",
    "spec.tolerations": "write tolerations",
    "spec.terminationGracePeriodSeconds": "write the cluster's notice_s",
}
_OPERATORS_LABELS = ("ray.io/", "kueue.x-k8s.io/", "volcano.sh/", "eksml.io/")


def _template(value: dict[str, Any]) -> dict[str, Any]:
    problems = list(_problems(value))
    if problems:
        raise Refused(problems)
    return value


def _problems(template: dict[str, Any]) -> Iterator[Problem]:
    for key in template.keys() - {"metadata", "spec"}:
        yield Problem(key, "is not a field of a pod template.", "Write metadata or spec.")
    for part in ("metadata", "spec"):
        inside = template.get(part, {})
        if not isinstance(inside, Mapping):
            yield Problem(part, f"{inside!r:.80} is not a mapping.")
            continue
        for key in inside:
            if why := _SAID_ELSEWHERE.get(f"{part}.{key}"):
                yield Problem(f"{part}.{key}", "is eksml's to write.", f"{why.capitalize()}.")
    yield from _label_problems(template.get("metadata"))
    yield from json_problems(template)
    yield from _null_problems(template)


def _label_problems(metadata: Any) -> Iterator[Problem]:
    labels = metadata.get("labels") if isinstance(metadata, Mapping) else None
    if not isinstance(labels, Mapping):
        return
    for key in labels:
        if str(key).startswith(_OPERATORS_LABELS):
            yield Problem(
                f"metadata.labels.{key}", "is for the operator or eksml to set.", "Leave it out."
            )


def _null_problems(template: dict[str, Any]) -> Iterator[Problem]:
    for path, value in _leaves(template, ""):
        if value is None:
            yield Problem(path, "is null, which server-side apply refuses.", "Leave it out.")


def json_problems(value: Any, path: str = "") -> Iterator[Problem]:
    """What in ``value`` cannot be written as JSON."""
    for at, leaf in _leaves(value, path):
        yield from _leaf_problems(leaf, at)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything in it that is neither a mapping nor a list, with its path; bad keys as well."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            at = f"{path}.{key}" if path else str(key)
            if not isinstance(key, str):
                yield at, _BadKey(key)
            yield from _leaves(inner, at)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{path}.{index}")
    else:
        yield path, value


@dataclass(frozen=True)
class _BadKey:
    key: Any


def _leaf_problems(value: Any, path: str) -> Iterator[Problem]:
    if isinstance(value, _BadKey):
        yield Problem(path, f"the key {value.key!r} is not text.", "Put it in quotes.")
    elif not isinstance(value, str | bool | int | float | None):
        yield Problem(path, f"{value!r:.80} cannot be written as JSON.")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"{value!r} cannot be written as JSON.")


Pod = Annotated[dict[str, Any], AfterValidator(_template)]
