"""Laying a user's own fields over a pod template, as ``kubectl patch`` would."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""Lists whose entries have an identity, and the field that holds it: Kubernetes' merge keys."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on it; neither is changed, and of ``over`` nothing is shared.

    Mappings are merged field by field. Entries of a list that have an identity (containers by
    name, volume mounts by path) are merged with their namesakes, and new ones follow at the end;
    any other list, and any other value, takes the place of the one below.
    """
    result = dict(base)
    for field, value in over.items():
        below = result.get(field)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[field] = merged(below, value)
        elif isinstance(below, list) and isinstance(value, list) and field in _KEYS:
            result[field] = _merged_list(below, value, _KEYS[field])
        else:
            result[field] = copy.deepcopy(value)
    return result


def _merged_list(base: list[Any], over: list[Any], key: str) -> list[Any]:
    result = list(base)
    for entry in over:
        place = _place(result, entry, key)
        if place is None:
            result.append(copy.deepcopy(entry))
        else:
            result[place] = merged(result[place], entry)
    return result


def _place(entries: list[Any], entry: Any, key: str) -> int | None:
    """Where the namesake of ``entry`` stands."""
    if not isinstance(entry, Mapping) or key not in entry:
        return None
    for index, other in enumerate(entries):
        if isinstance(other, Mapping) and other.get(key) == entry[key]:
            return index
    return None
