"""Who owns which field: server-side apply, with conflicts, as the API server's rules say it.

Lists are atomic, as in every CRD that does not say otherwise (KubeRay's do not); only owner
references merge, by their uid.
"""

from __future__ import annotations

import copy
from typing import Any

Path = tuple[Any, ...]
Owner = tuple[str, str]
"""Manager and operation: ``Apply`` or ``Update``."""
Owners = dict[Owner, set[Path]]

_SERVERS_OWN = {
    ("apiVersion",),
    ("kind",),
    *(
        ("metadata", field)
        for field in (
            *("name", "namespace", "uid", "resourceVersion", "generation"),
            *("creationTimestamp", "deletionTimestamp", "managedFields"),
        )
    ),
}


class Conflict(Exception):
    """Other managers own fields that would change."""

    def __init__(self, fields: list[tuple[Path, Owner]]) -> None:
        super().__init__(fields)
        self.fields = fields


def apply(
    live: dict[str, Any], owners: Owners, wanted: dict[str, Any], manager: str, force: bool
) -> tuple[dict[str, Any], Owners]:
    """``live`` after the apply, and who owns what then.

    Raises:
        Conflict: unless ``force``.
    """
    me: Owner = (manager, "Apply")
    mine = leaves(wanted)
    conflicts = [
        (path, other)
        for path in sorted(mine, key=repr)
        for other, theirs in owners.items()
        if other != me and value_at(live, path) != value_at(wanted, path)
        for owned in theirs
        if overlap(owned, path)
    ]
    if conflicts and not force:
        raise Conflict(conflicts)
    after, result = copy.deepcopy(owners), copy.deepcopy(live)
    for path, other in conflicts:
        after[other] = {owned for owned in after[other] if not overlap(owned, path)}
    dropped = owners.get(me, set()) - mine
    after[me] = mine
    for path in dropped:
        if not any(overlap(owned, path) for theirs in after.values() for owned in theirs):
            _remove(result, path)
    for path in mine:
        _set(result, path, value_at(wanted, path))
    return result, {owner: fields for owner, fields in after.items() if fields}


def update(before: dict[str, Any], after: dict[str, Any], owners: Owners, manager: str) -> Owners:
    """Who owns what after a plain write: the writer takes what it changed."""
    changed = {
        path
        for path in leaves(before) | leaves(after)
        if value_at(before, path) != value_at(after, path)
    }
    result = {
        owner: {owned for owned in fields if not any(overlap(owned, path) for path in changed)}
        for owner, fields in owners.items()
    }
    result[(manager, "Update")] = result.get((manager, "Update"), set()) | {
        path for path in changed if value_at(after, path) is not None
    }
    return {owner: fields for owner, fields in result.items() if fields}


def leaves(thing: Any, path: Path = ()) -> set[Path]:
    """The paths of all scalars and lists, without what only the server writes."""
    if path in _SERVERS_OWN or path[:1] == ("status",):
        return set()
    if path == ("metadata", "ownerReferences"):
        return {(*path, reference["uid"]) for reference in thing}
    if isinstance(thing, dict) and (thing or not path):
        return set().union(*(leaves(inner, (*path, key)) for key, inner in thing.items()))
    return {path}


def managed_fields(owners: Owners, api_version: str) -> list[dict[str, Any]]:
    """As ``metadata.managedFields`` shows it."""
    shown = []
    for (manager, operation), fields in sorted(owners.items()):
        tree: dict[str, Any] = {}
        for path in sorted(fields, key=repr):
            node = tree
            for step in path:
                node = node.setdefault(f"f:{step}", {})
        entry = {"manager": manager, "operation": operation, "apiVersion": api_version}
        shown.append({**entry, "fieldsType": "FieldsV1", "fieldsV1": tree})
    return shown


def overlap(one: Path, other: Path) -> bool:
    """Whether a field is the other, or lies inside it."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def value_at(thing: Any, path: Path) -> Any:
    for step in path:
        if isinstance(thing, list):
            thing = next((one for one in thing if one.get("uid") == step), None)
        elif isinstance(thing, dict):
            thing = thing.get(step)
        else:
            return None
    return thing


def _set(thing: dict[str, Any], path: Path, value: Any) -> None:
    if path[:2] == ("metadata", "ownerReferences"):
        kept = [
            one for one in thing["metadata"].get("ownerReferences", []) if one["uid"] != path[2]
        ]
        thing["metadata"]["ownerReferences"] = [*kept, copy.deepcopy(value)]
        return
    for step in path[:-1]:
        inner = thing.get(step)
        thing[step] = inner if isinstance(inner, dict) else {}
        thing = thing[step]
    thing[path[-1]] = copy.deepcopy(value)


def _remove(thing: dict[str, Any], path: Path) -> None:
    if path[:2] == ("metadata", "ownerReferences"):
        references = thing["metadata"].get("ownerReferences", [])
        thing["metadata"]["ownerReferences"] = [r for r in references if r["uid"] != path[2]]
        return
    for step in path[:-1]:
        thing = thing.get(step, {})
    thing.pop(path[-1], None)
