"""What applying a specification would change: rendered objects against those that are live."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eksml.cluster.ray_objects import cluster_spec_of
from eksml.cluster.rules.quantity import amount

Object = Mapping[str, Any]
Path = tuple[str, ...]

FIELD_MANAGER = "eksml"
"""The name under which eksml applies objects; the server notes which fields it owns."""

_NAMES_OF_ELEMENTS = ("groupName", "name", "mountPath", "containerPort", "port", "key")
"""What tells elements of a list apart, the first that all of them have."""

_SERVER_DEFAULTS: Mapping[str, Any] = {
    "numOfHosts": 1,
    "priority": 0,
    "minReplicas": 0,
    "replicas": 0,
    "maxReplicas": 2147483647,
    "protocol": "TCP",
    "name": "",
}
"""Defaults of KubeRay's schema that the server writes into lists, which are owned as a whole."""

_AMOUNTS_UNDER = frozenset(("limits", "requests", "hard", "sizeLimit", "storage"))


@dataclass(frozen=True)
class Change:
    """One field, or a whole object, that differs."""

    object: str
    """``RayCluster/train``."""
    path: str
    """The field, such as ``spec.workerGroupSpecs[gpu].maxReplicas``; empty for the object."""
    live: Any
    """What the server has; None if nothing."""
    wanted: Any
    """What the specification says; None if it shall go."""
    owner: str = ""
    """Who else owns the live value: applying over it needs ``force``. Empty: nobody else."""

    def __str__(self) -> str:
        if not self.path:
            return f"{'-' if self.wanted is None else '+'} {self.object}"
        if self.live is None:
            sign, told = "+", _short(self.wanted)
        elif self.wanted is None:
            sign, told = "-", _short(self.live)
        else:
            sign, told = "~", f"{_short(self.live)} → {_short(self.wanted)}"
        owner = f" (owned by {self.owner})" if self.owner else ""
        return f"{sign} {self.object} {self.path}: {told}{owner}"


def diff(
    objects: Iterable[Object], live: Iterable[Object], *, manager: str = FIELD_MANAGER
) -> list[Change]:
    """What applying ``objects`` over ``live`` would change, in the order of ``objects``.

    Only fields that ``objects`` state, or that ``manager`` owns and ``objects`` no longer state,
    are compared: what the server, an operator or another manager added is none of our business.
    The autoscaler's own fields (a group's ``replicas``) are left to it. ``live`` is to hold only
    what belongs to the cluster: an object there that is not in ``objects`` shall go.

    Secrets' values are compared, never shown.
    """
    there = {_identity(item): item for item in live}
    changes: list[Change] = []
    for item in objects:
        found = there.pop(_identity(item), None)
        if found is None:
            changes.append(Change(_title(item), "", None, _shown(item)))
        else:
            changes.extend(_Comparison(item, found, manager).changes())
    changes.extend(Change(_title(item), "", _shown(item), None) for item in there.values())
    return changes


class _Comparison:
    """One object, wanted and live, and who owns which live field."""

    def __init__(self, wanted: Object, live: Object, manager: str) -> None:
        self._wanted = _readable(wanted)
        self._live = _readable(live)
        self._title = _title(wanted)
        self._secret = wanted.get("kind") == "Secret"
        entries = live.get("metadata", {}).get("managedFields") or ()
        self._ours = _fields(entry for entry in entries if entry.get("manager") == manager)
        self._others = {
            entry.get("manager", ""): entry.get("fieldsV1") or {}
            for entry in entries
            if entry.get("manager") != manager
        }
        self._autoscaled = bool((cluster_spec_of(wanted) or {}).get("enableInTreeAutoscaling"))

    def changes(self) -> Iterator[Change]:
        return self._mapping((), self._wanted, self._live, self._ours, whole=False)

    def _mapping(
        self, path: Path, wanted: Object, live: Object, ours: Object, *, whole: bool
    ) -> Iterator[Change]:
        """``whole``: inside a list that its owner owns altogether, whoever wrote which element."""
        for name, value in wanted.items():
            inner = ours.get(f"f:{name}") or {}
            if self._left_to_others((*path, name)):
                continue
            if name not in live or live[name] is None:
                if value not in ([], None):
                    yield self._change((*path, name), None, value)
            else:
                yield from self._value((*path, name), value, live[name], inner, whole=whole)
        for name, value in live.items():
            mine = whole or f"f:{name}" in ours
            if name in wanted or not mine or self._left_to_others((*path, name)):
                continue
            if not (whole and _SERVER_DEFAULTS.get(name, _NOTHING) == value):
                yield self._change((*path, name), value, None)

    def _value(
        self, path: Path, wanted: Any, live: Any, ours: Object, *, whole: bool
    ) -> Iterator[Change]:
        if isinstance(wanted, Mapping) and isinstance(live, Mapping):
            yield from self._mapping(path, wanted, live, ours, whole=whole)
        elif isinstance(wanted, list) and isinstance(live, list):
            yield from self._list(path, wanted, live, ours, whole=whole)
        elif not _equal(path, wanted, live):
            yield self._change(path, live, wanted)

    def _list(
        self, path: Path, wanted: list[Any], live: list[Any], ours: Object, *, whole: bool
    ) -> Iterator[Change]:
        key = _key_of(wanted, live)
        if key is None:
            if wanted != live:
                yield self._change(path, live, wanted)
            return
        # A list whose elements have owners of their own lists them as k:{…}; else it is owned whole
        by_element = {_named(name): inner for name, inner in ours.items() if name[:2] == "k:"}
        whole = whole or not by_element
        there = {element[key]: element for element in live}
        for element in wanted:
            name = element[key]
            where = (*path[:-1], f"{path[-1]}[{name}]")
            found = there.pop(name, None)
            if found is None:
                yield self._change(where, None, element)
            else:
                inner = by_element.get(str(name), {})
                yield from self._mapping(where, element, found, inner, whole=whole)
        for name, element in there.items():
            if whole or str(name) in by_element:
                yield self._change((*path[:-1], f"{path[-1]}[{name}]"), element, None)

    def _left_to_others(self, path: Path) -> bool:
        if path == ("status",):
            return True
        scaled = path[-1] in ("replicas", "scaleStrategy")
        return self._autoscaled and scaled and path[-2][:16] == "workerGroupSpecs"

    def _change(self, path: Path, live: Any, wanted: Any) -> Change:
        if self._secret and path[0] == "stringData":
            live, wanted = live and _HIDDEN, wanted and _HIDDEN
        owner = self._owner(path) if live is not None else ""
        return Change(self._title, ".".join(path), live, wanted, owner)

    def _owner(self, path: Path) -> str:
        """Another manager that owns exactly this field, and ours does not."""
        if _owns(self._ours, path):
            return ""
        return next((name for name, fields in self._others.items() if _owns(fields, path)), "")


_NOTHING = object()
_HIDDEN = "(hidden)"


def _identity(item: Object) -> tuple[str, str, str, str]:
    group, slash, _ = item.get("apiVersion", "").partition("/")
    metadata = item.get("metadata", {})
    namespace = metadata.get("namespace") or "default"
    return (group if slash else "", item.get("kind", ""), namespace, metadata.get("name", ""))


def _title(item: Object) -> str:
    return f"{item.get('kind', '')}/{item.get('metadata', {}).get('name', '')}"


def _readable(item: Object) -> Object:
    """A Secret's write-only ``stringData`` and what the server makes of it are one thing."""
    if item.get("kind") != "Secret" or "data" not in item:
        return item
    plain = {name: _decoded(value) for name, value in (item["data"] or {}).items()}
    rest = {name: value for name, value in item.items() if name != "data"}
    return rest | {"stringData": plain | dict(item.get("stringData") or {})}


def _shown(item: Object) -> Object:
    """A Secret without its values; everything else as it is."""
    if item.get("kind") != "Secret":
        return item
    values = {name: _HIDDEN for name in ("data", "stringData") if name in item}
    return {**item, **values}


def _decoded(value: str) -> str:
    try:
        return base64.b64decode(value).decode(errors="replace")
    except binascii.Error:
        return value


def _fields(entries: Iterable[Object]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for entry in entries:
        _merge(merged, entry.get("fieldsV1") or {})
    return merged


def _merge(into: dict[str, Any], fields: Object) -> None:
    for name, inner in fields.items():
        _merge(into.setdefault(name, {}), inner)


def _owns(fields: Object, path: Path) -> bool:
    """Whether the tree of ``fieldsV1`` has this field, or a list or field above it as a whole."""
    for index, part in enumerate(path):
        name, bracket, element = part.partition("[")
        if f"f:{name}" not in fields:
            return bool(index) and not fields
        fields = fields[f"f:{name}"]
        if bracket and fields:
            named = (inner for key, inner in fields.items() if _named(key) == element[:-1])
            fields = next(named, {"": {}})
    return not fields or "." in fields


def _named(key: str) -> str:
    """``k:{"name":"x"}`` → ``x``."""
    if not key.startswith("k:"):
        return ""
    parts = json.loads(key[2:])
    return str(next((parts[name] for name in _NAMES_OF_ELEMENTS if name in parts), ""))


def _key_of(*lists: Sequence[Any]) -> str | None:
    """The field that names each element of all lists; None if there is none."""
    for key in _NAMES_OF_ELEMENTS:
        if all(_names(key, elements) for elements in lists):
            return key
    return None


def _names(key: str, elements: Sequence[Any]) -> bool:
    if not all(isinstance(element, Mapping) and element.get(key) for element in elements):
        return False
    return len({str(element[key]) for element in elements}) == len(elements)


def _equal(path: Path, wanted: Any, live: Any) -> bool:
    if wanted == live:
        return True
    # The server writes amounts in its own way: 1024Mi as 1Gi, 1000m as 1
    if _AMOUNTS_UNDER.isdisjoint(path):
        return False
    return amount(wanted) is not None and amount(wanted) == amount(live)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
