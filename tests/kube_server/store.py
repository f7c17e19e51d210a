"""The fake's objects: resource versions, a history to watch, deletion with owners."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from kube_server import ownership
from kube_server.ownership import Owners

Thing = dict[str, Any]
Key = tuple[str, str, str, str]
"""API version, kind, namespace (empty outside), name."""


@dataclass(frozen=True)
class Change:
    """One entry of the history."""

    version: int
    type: str
    """``ADDED``, ``MODIFIED`` or ``DELETED``."""
    thing: Thing


class Store:
    """All objects. Thread-safe: hold ``changed`` for more than one call."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 100
        self.oldest = 0
        """Watches from before this version are refused (410)."""
        self.history: list[Change] = []
        self._things: dict[Key, Thing] = {}
        self._owners: dict[Key, Owners] = {}

    def get(self, key: Key) -> Thing | None:
        with self.changed:
            found = self._things.get(key)
            return copy.deepcopy(found) if found else None

    def select(self, api_version: str, kind: str, namespace: str | None = None) -> list[Thing]:
        """By namespace and name; None: all namespaces."""
        with self.changed:
            return [
                copy.deepcopy(thing)
                for key, thing in sorted(self._things.items())
                if key[:2] == (api_version, kind) and namespace in (None, key[2])
            ]

    def all(self) -> list[Thing]:
        with self.changed:
            return [copy.deepcopy(thing) for thing in self._things.values()]

    def owners(self, key: Key) -> Owners:
        with self.changed:
            return self._owners.get(key, {})

    def put(self, thing: Thing, owners: Owners | None = None) -> Thing:
        """Write an object as it shall be; the store does versions and generations."""
        key = key_of(thing)
        with self.changed:
            before = self._things.get(key)
            self.version += 1
            thing = copy.deepcopy(thing)
            metadata = thing["metadata"]
            metadata["resourceVersion"] = str(self.version)
            if before is None:
                metadata.setdefault("uid", str(uuid.uuid4()))
                metadata["creationTimestamp"] = now()
                metadata["generation"] = 1
            else:
                metadata["uid"] = before["metadata"]["uid"]
                grown = before.get("spec") != thing.get("spec")
                metadata["generation"] = before["metadata"]["generation"] + grown
            if owners is not None:
                self._owners[key] = owners
                metadata["managedFields"] = ownership.managed_fields(owners, thing["apiVersion"])
            self._things[key] = thing
            self._tell("MODIFIED" if before else "ADDED", thing)
            return copy.deepcopy(thing)

    def edit(self, key: Key, change: Callable[[Thing], None]) -> None:
        """Change an object in place, as a controller does."""
        with self.changed:
            thing = self.get(key)
            if thing is not None:
                before = copy.deepcopy(thing)
                change(thing)
                if thing != before:
                    self.put(thing)

    def delete(self, key: Key, *, foreground: bool = False) -> None:
        """Delete; in the foreground, it stays until :meth:`collect` has taken its dependents."""
        with self.changed:
            thing = self.get(key)
            if thing is None:
                return
            if foreground and any(self._dependents(thing)):
                if "deletionTimestamp" not in thing["metadata"]:
                    thing["metadata"]["deletionTimestamp"] = now()
                    thing["metadata"]["finalizers"] = ["foregroundDeletion"]
                    self.put(thing)
                return
            self._remove(key)

    def collect(self) -> None:
        """What Kubernetes' garbage collector does, once."""
        with self.changed:
            for thing in self.all():
                if "deletionTimestamp" in thing["metadata"]:
                    self._delete_dependents(thing)
                    self._remove(key_of(thing))
            uids = {thing["metadata"]["uid"] for thing in self._things.values()}
            for thing in self.all():
                owners = thing["metadata"].get("ownerReferences") or []
                if owners and not any(owner["uid"] in uids for owner in owners):
                    self.delete(key_of(thing))

    def compact(self) -> None:
        """Forget the history: watches that go on from now on are told to list again."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.history.clear()
            self.changed.notify_all()

    def _remove(self, key: Key) -> None:
        thing = self._things.pop(key)
        self._owners.pop(key, None)
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", thing)

    def _delete_dependents(self, owner: Thing) -> None:
        """Those that have no other owner."""
        uids = {thing["metadata"]["uid"] for thing in self._things.values()}
        uids.discard(owner["metadata"]["uid"])
        for dependent in list(self._dependents(owner)):
            if not any(one["uid"] in uids for one in dependent["metadata"]["ownerReferences"]):
                self.delete(key_of(dependent))

    def _dependents(self, owner: Thing) -> Iterator[Thing]:
        uid = owner["metadata"]["uid"]
        for thing in list(self._things.values()):
            if any(one["uid"] == uid for one in thing["metadata"].get("ownerReferences") or ()):
                yield thing

    def _tell(self, kind: str, thing: Thing) -> None:
        self.history.append(Change(self.version, kind, copy.deepcopy(thing)))
        self.changed.notify_all()


def key_of(thing: Thing) -> Key:
    metadata = thing["metadata"]
    return thing["apiVersion"], thing["kind"], metadata.get("namespace") or "", metadata["name"]


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
