"""What an API server with KubeRay's CRDs would say of a manifest (strict field validation).

The CRDs lie beside the checkout, not in it: tests that need them carry ``needs_crds``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CRDS = Path(__file__).resolve().parents[3] / "shared" / "crds"
KINDS = ("RayCluster", "RayJob", "RayService", "RayCronJob")
GROUP_VERSION = "ray.io/v1"

needs_crds = pytest.mark.skipif(not CRDS.is_dir(), reason="KubeRay's CRDs are not beside this")

Schema = Mapping[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ),
}
_FORMATS = {"int32": 2**31, "int64": 2**63}
_LABELS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_OBJECT_META: Schema = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _LABELS,
        "annotations": _LABELS,
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array"},
    },
}
_KNOWN = {
    *("type", "properties", "additionalProperties", "items", "required", "enum", "format"),
    *("pattern", "default", "nullable", "minimum", "maximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "anyOf", "description"),
    *("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
    "x-kubernetes-validations",
}

# The CRDs' CEL rules, by their text; a rule that is not here stops the tests.
_CEL: dict[str, Callable[[Any], bool]] = {
    "self == oldSelf": lambda value: True,
    "self in ['ray.io/kuberay-operator', 'kueue.x-k8s.io/multikueue']": lambda value: (
        value in ("ray.io/kuberay-operator", "kueue.x-k8s.io/multikueue")
    ),
    "!((has(self.onSuccess) || has(self.onFailure)) && has(self.deletionRules))": lambda value: (
        not ({"onSuccess", "onFailure"} & value.keys() and "deletionRules" in value)
    ),
    "((has(self.onSuccess) && has(self.onFailure)) || has(self.deletionRules))": lambda value: (
        {"onSuccess", "onFailure"} <= value.keys() or "deletionRules" in value
    ),
    "!(has(self.jobStatus) && has(self.jobDeploymentStatus))": lambda value: (
        not {"jobStatus", "jobDeploymentStatus"} <= value.keys()
    ),
    "has(self.jobStatus) || has(self.jobDeploymentStatus)": lambda value: bool(
        {"jobStatus", "jobDeploymentStatus"} & value.keys()
    ),
}


@cache
def schema(kind: str) -> Schema:
    """The ``openAPIV3Schema`` of ``kind`` in ``ray.io/v1``. A second to read, then kept."""
    text = (CRDS / f"ray.io_{kind.lower()}s.yaml").read_bytes()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    versions = yaml.load(text, Loader=loader)["spec"]["versions"]
    (found,) = [version for version in versions if version["name"] == "v1"]
    root: Schema = found["schema"]["openAPIV3Schema"]
    return root


def violations(manifest: Mapping[str, Any]) -> list[str]:
    """Everything that the API server would refuse, each as ``path: what``.

    Unknown fields are refused (``fieldValidation=Strict``), and so is null: server-side apply
    refuses it though a plain create prunes it. Defaults count as set.
    """
    kind = manifest.get("kind")
    if kind not in KINDS or manifest.get("apiVersion") != GROUP_VERSION:
        return [f"apiVersion, kind: {manifest.get('apiVersion')} {kind} is not served"]
    # An API server knows every object's metadata; a CRD only says that it is an object.
    root = schema(kind)
    properties = {**root["properties"], "metadata": _OBJECT_META}
    return list(_violations(manifest, {**root, "properties": properties}, ""))


def spec_violations(kind: str, field: str, value: Any) -> list[str]:
    """The same for one value at a dotted ``field`` of ``kind``, such as
    ``spec.headGroupSpec.template``; ``*`` steps into a list."""
    found = schema(kind)
    for step in field.split("."):
        found = found["items"] if step == "*" else found["properties"][step]
    return list(_violations(value, found, field))


def _violations(value: Any, at: Schema, path: str) -> Iterator[str]:
    if unknown := at.keys() - _KNOWN:
        raise NotImplementedError(f"the schema at {path} uses {unknown}")
    if value is None:
        if not at.get("nullable"):
            yield f"{path}: null"
        return
    if at.get("x-kubernetes-int-or-string"):
        right = _TYPES["integer"](value) or isinstance(value, str)
    else:
        right = "type" not in at or _TYPES[at["type"]](value)
    if not right:
        yield f"{path}: {value!r:.80} is not of type {at.get('type', 'integer or string')}"
        return
    yield from _scalar(value, at, path)
    if isinstance(value, Mapping):
        yield from _mapping(value, at, path)
    elif isinstance(value, list):
        yield from _list(value, at, path)
    for rule in at.get("x-kubernetes-validations", ()):
        if not _CEL[rule["rule"]](value):
            yield f"{path}: {rule['message']}"


def _scalar(value: Any, at: Schema, path: str) -> Iterator[str]:
    if "enum" in at and value not in at["enum"]:
        yield f"{path}: {value!r:.80} is none of {at['enum']}"
    if isinstance(value, str):
        if "pattern" in at and not re.search(at["pattern"], value):
            yield f"{path}: {value!r:.80} does not match {at['pattern']}"
        if not at.get("minLength", 0) <= len(value) <= at.get("maxLength", math.inf):
            yield f"{path}: {value!r:.80} is too short or too long"
    elif isinstance(value, (int, float)):
        if not at.get("minimum", -math.inf) <= value <= at.get("maximum", math.inf):
            yield f"{path}: {value} is out of range"
        bound = _FORMATS.get(at.get("format", ""), math.inf)
        if not -bound <= value < bound:
            yield f"{path}: {value} does not fit {at['format']}"


def _mapping(value: Mapping[str, Any], at: Schema, path: str) -> Iterator[str]:
    properties = at.get("properties", {})
    others = at.get("additionalProperties")
    for key in at.get("required", ()):
        if key not in value and "default" not in properties.get(key, {}):
            yield f"{_join(path, key)}: missing"
    for key, inner in value.items():
        if key in properties:
            yield from _violations(inner, properties[key], _join(path, key))
        elif isinstance(others, Mapping):
            yield from _violations(inner, others, _join(path, key))
        elif others is not True and not at.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{_join(path, key)}: unknown"


def _list(value: list[Any], at: Schema, path: str) -> Iterator[str]:
    if not at.get("minItems", 0) <= len(value) <= at.get("maxItems", math.inf):
        yield f"{path}: {len(value)} items"
    for index, item in enumerate(value):
        yield from _violations(item, at.get("items", {}), _join(path, index))
    if at.get("x-kubernetes-list-type") == "set":
        keys = [repr(item) for item in value]
    elif at.get("x-kubernetes-list-type") == "map":
        fields = at["items"].get("properties", {})
        names = at["x-kubernetes-list-map-keys"]
        items = [item for item in value if isinstance(item, Mapping)]
        keys = [repr([item.get(n, fields[n].get("default")) for n in names]) for item in items]
    else:
        return
    yield from (f"{path}: {key} twice" for key in sorted(set(keys)) if keys.count(key) > 1)


def _join(path: str, step: str | int) -> str:
    return f"{path}.{step}" if path else str(step)
