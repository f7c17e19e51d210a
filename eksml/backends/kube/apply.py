"""Objects that come and go with a cluster: applied in order, and removed again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import CLUSTER_LABEL, OBJECTS_ANNOTATION, Object, Ref
from eksml.backends.kube.refusals import NotServed, Unreachable
from eksml.backends.why.reason import at
from eksml.cluster.render.names import INSTANCE, MANAGED_BY
from eksml.errors import EksmlError

_SKIPPABLE = ("PodMonitor",)
"""Wanted by default, and nothing fails without it."""


class Change:
    """The objects around one cluster that a call of ``up`` applies.

    Objects that were there before and are not the cluster's own get our fields, if nobody else
    manages those, and are never deleted.
    """

    def __init__(self, client: KubeClient, cluster: str, *, force: bool = False) -> None:
        self.created: list[Ref] = []
        """What this change created, or tried to: none of it was there before."""
        self.owned: list[Ref] = []
        """The same, and what an earlier call for this cluster created."""
        self.shared: list[Ref] = []
        """Those of ``owned`` that go with their last owner: jobs of the same cluster use them."""
        self.left_out: list[str] = []
        """What was not applied since nothing here would look at it, and why."""
        self._client = client
        self._cluster = cluster
        self._force = force

    def apply(self, things: Iterable[Object]) -> None:
        """Apply the objects in their order.

        Raises:
            ClusterError: another manager owns a field, unless forced; or a kind is not installed.
            InvalidSpec: the API server does not take an object.
        """
        for thing in things:
            try:
                self._apply(thing)
            except NotServed as error:
                if thing["kind"] not in _SKIPPABLE:
                    raise
                self.left_out.append(f"{Ref.of(thing)} is left out. {error}")

    def undo(self, failure: BaseException) -> None:
        """Remove what this change created. What cannot be removed is noted on ``failure``."""
        remove(self._client, self._cluster, self.created, failure)

    def bind(self, owner: Object, refs: Iterable[Ref]) -> None:
        """Let Kubernetes delete those objects when ``owner`` and all other owners are deleted.

        Not what is outside namespaces: that cannot be owned from within one.
        """
        metadata = owner["metadata"]
        reference = {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        }
        for ref in refs:
            if ref.namespace is not None:
                bound = {"name": ref.name, "namespace": ref.namespace}
                self._client.apply(
                    {
                        "apiVersion": ref.api_version,
                        "kind": ref.kind,
                        "metadata": {**bound, "ownerReferences": [reference]},
                    },
                    # A manager of its own for each owner: applying one takes no other away
                    manager=f"eksml-owner-{metadata['uid']}",
                )

    def _apply(self, thing: Object) -> None:
        ref = Ref.of(thing)
        live = self._client.get(ref)
        if live is not None and not is_owned(live, self._cluster):
            self._client.apply(_foreign(thing), force=self._force)
            return
        if live is None:
            self.created.append(ref)
        elif live["metadata"].get("ownerReferences"):
            self.shared.append(ref)
        self.owned.append(ref)
        self._client.apply(owned(thing, self._cluster), force=self._force)


def remove(
    client: KubeClient, cluster: str, refs: Iterable[Ref], failure: BaseException | None = None
) -> None:
    """Delete those of the objects that are the cluster's own, the last first.

    Not those that have owners: they go with the last of them.

    Raises:
        ClusterError: one cannot be deleted; with ``failure``, that is noted there instead.
    """
    left = list(refs)
    while left:
        ref = left.pop()
        try:
            live = client.get(ref)
            if live is not None and _is_only(live, cluster):
                client.delete(ref, uid=live["metadata"]["uid"])
        except NotServed:
            continue  # its CRD went, and all objects with it
        except EksmlError as error:
            if failure is None:
                raise
            failure.add_note(f"{ref} was left behind: {error}")
            if isinstance(error, Unreachable):  # nor will the next one be answered
                failure.add_note(f"So were {', '.join(map(str, left)) or 'no others'}.")
                return


def owned(thing: Object, cluster: str) -> Object:
    """The object with the labels that make it the cluster's own."""
    metadata: Mapping[str, Any] = thing["metadata"]
    labels = {**(metadata.get("labels") or {}), MANAGED_BY: "eksml", CLUSTER_LABEL: cluster}
    return {**thing, "metadata": {**metadata, "labels": labels}}


def _foreign(thing: Object) -> Object:
    """The object without the labels that say whose it is: it is somebody else's."""
    metadata: Mapping[str, Any] = thing["metadata"]
    labels = metadata.get("labels") or {}
    kept = {key: value for key, value in labels.items() if key not in (MANAGED_BY, INSTANCE)}
    return {**thing, "metadata": {**metadata, "labels": kept or None}}


def is_owned(thing: Object, cluster: str) -> bool:
    """Whether ``up`` created the object, for that cluster."""
    return bool(at(thing, "metadata", "labels", CLUSTER_LABEL) == cluster)


def _is_only(thing: Object, cluster: str) -> bool:
    return is_owned(thing, cluster) and not thing["metadata"].get("ownerReferences")


def write_inventory(refs: Iterable[Ref]) -> str:
    """References as the text of an annotation."""
    listed = [[ref.api_version, ref.kind, ref.name, ref.namespace] for ref in refs]
    return json.dumps(listed, separators=(",", ":"))


def read_inventory(raycluster: Object) -> list[Ref]:
    """The other objects that were created with a RayCluster; none if that is not known."""
    text = at(raycluster, "metadata", "annotations", OBJECTS_ANNOTATION)
    try:
        return [Ref(*entry) for entry in json.loads(text or "[]")]
    except (ValueError, TypeError):
        return []
