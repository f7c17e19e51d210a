"""Requests on objects, as the fake API server carries them out."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from kube_server import ownership
from kube_server.admission import Refusal, check
from kube_server.jsonpatch import patched
from kube_server.kinds import Kinds
from kube_server.store import Key, Store, Thing


@dataclass(frozen=True)
class Target:
    """What a URL names."""

    api_version: str
    kind: str
    namespaced: bool
    namespace: str | None
    name: str | None
    subresource: str | None

    @property
    def key(self) -> Key:
        return self.api_version, self.kind, self.namespace or "", self.name or ""


def parse(path: str, served: dict[str, Kinds]) -> Target | str:
    """The target of a path, or the API version whose kinds are asked for.

    Raises:
        Refusal: 404.
    """
    steps = path.strip("/").split("/")
    size = 2 if steps[0] == "api" else 3
    api_version, rest = "/".join(steps[1:size]), steps[size:]
    if api_version not in served:
        raise Refusal(404, "NotFound", "the server could not find the requested resource")
    if not rest:
        return api_version
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    for kind, (plural, namespaced) in served[api_version].items():
        if plural == rest[0]:
            name = rest[1] if len(rest) > 1 else None
            subresource = rest[2] if len(rest) > 2 else None
            return Target(api_version, kind, namespaced, namespace, name, subresource)
    raise Refusal(404, "NotFound", "the server could not find the requested resource")


def get(store: Store, target: Target) -> Thing:
    """One object, or a list of those that the selectors choose."""
    found = store.get(target.key)
    if found is None:
        raise _not_found(target)
    return found


def listed(store: Store, target: Target, query: dict[str, str]) -> Thing:
    """The objects that the selectors choose."""
    with store.changed:
        things = store.select(target.api_version, target.kind, target.namespace)
        items = [thing for thing in things if chosen(thing, query)]
        version = str(store.version)
    for item in items:  # as in a real list, whose items do not say what they are
        del item["apiVersion"], item["kind"]
    common = {"apiVersion": target.api_version, "kind": f"{target.kind}List"}
    return {**common, "metadata": {"resourceVersion": version}, "items": items}


def create(store: Store, target: Target, thing: Thing, query: dict[str, str]) -> Thing:
    """A new object."""
    thing = _complete(thing, target)
    named = Target(**{**target.__dict__, "name": thing["metadata"]["name"]})
    with store.changed:
        live = store.get(named.key)
        if live is not None:
            told = f'{target.kind.lower()}s "{named.name}" already exists'
            if "deletionTimestamp" in live["metadata"]:
                told = f"object is being deleted: {told}"
            raise Refusal(409, "AlreadyExists", told)
        check(thing, store)
        if query.get("dryRun") == "All":
            return thing
        owners = ownership.update({}, thing, {}, query.get("fieldManager", "unknown"))
        return store.put(thing, owners)


def apply(store: Store, target: Target, wanted: Thing, query: dict[str, str]) -> Thing:
    """Server-side apply."""
    wanted = _complete(wanted, target)
    if _has_null(wanted):
        raise Refusal(400, "BadRequest", "unable to apply: null is not allowed")
    manager = query.get("fieldManager")
    if not manager:
        raise Refusal(400, "BadRequest", "fieldManager is required for apply patch")
    with store.changed:
        live = store.get(target.key)
        owners = store.owners(target.key)
        start = live or {key: wanted[key] for key in ("apiVersion", "kind")} | {
            "metadata": {
                key: wanted["metadata"][key]
                for key in ("name", "namespace")
                if key in wanted["metadata"]
            }
        }
        try:
            forced = query.get("force") == "true"
            result, after = ownership.apply(start, owners, wanted, manager, forced)
        except ownership.Conflict as conflict:
            raise _conflict(target, conflict) from conflict
        check(result, store)
        if query.get("dryRun") == "All":
            return result
        return store.put(result, after)


def patch(store: Store, target: Target, operations: Any, query: dict[str, str]) -> Thing:
    """A JSON patch."""
    with store.changed:
        live = get(store, target)
        result = patched(live, operations)
        if result is None:
            told = "the server rejected our request due to an error in our request"
            raise Refusal(422, "Invalid", told)
        check(result, store)
        manager = query.get("fieldManager", "unknown")
        owners = ownership.update(live, result, store.owners(target.key), manager)
        return store.put(result, owners)


def delete(store: Store, target: Target, options: Thing) -> Thing:
    """Delete an object."""
    with store.changed:
        live = get(store, target)
        uid = (options.get("preconditions") or {}).get("uid")
        if uid not in (None, live["metadata"]["uid"]):
            told = f"Precondition failed: UID in precondition: {uid}"
            raise Refusal(409, "Conflict", told)
        store.delete(target.key, foreground=options.get("propagationPolicy") == "Foreground")
    return {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def chosen(thing: Thing, query: dict[str, str]) -> bool:
    """Whether the label and field selectors of a query choose the object."""
    labels = thing["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if labels.get(key) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, value = term.partition("=")
        if ownership.value_at(thing, tuple(path.split("."))) != value:
            return False
    return True


def _complete(thing: Thing, target: Target) -> Thing:
    if (thing.get("apiVersion"), thing.get("kind")) != (target.api_version, target.kind):
        raise Refusal(400, "BadRequest", "the object provided is unrecognized")
    metadata = dict(thing["metadata"])
    if target.namespaced:
        metadata.setdefault("namespace", target.namespace)
        if metadata["namespace"] != target.namespace:
            raise Refusal(400, "BadRequest", "the namespace of the object does not match the URL")
    if target.name and metadata.setdefault("name", target.name) != target.name:
        raise Refusal(400, "BadRequest", "the name of the object does not match the URL")
    if "generateName" in metadata:
        metadata.setdefault("name", metadata["generateName"] + uuid.uuid4().hex[:5])
    return {**thing, "metadata": metadata}


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(inner is None or _has_null(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_null(inner) for inner in value)


def _conflict(target: Target, conflict: ownership.Conflict) -> Refusal:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{manager}"',
            "field": "." + ".".join(str(step) for step in path),
        }
        for path, (manager, _) in conflict.fields
    ]
    told = f"Apply failed with {len(causes)} conflicts"
    return Refusal(409, "Conflict", told, causes, kind=target.kind)


def _not_found(target: Target) -> Refusal:
    return Refusal(404, "NotFound", f'{target.kind.lower()}s "{target.name}" not found')
