"""How a RayCluster is created, read and deleted: by us, or by a client that the user brings."""

from __future__ import annotations

from typing import Protocol

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import UP_ANNOTATION, Object, Ref
from eksml.backends.why.reason import at
from eksml.errors import ClusterInUse


class Door(Protocol):
    """The whole surface. Failures are raised, never returned."""

    def create(self, raycluster: Object) -> Object:
        """Create it as given; it must be new.

        Raises:
            ClusterInUse: it is there already, by another call.
            ClusterError: it was not created.
        """

    def get(self, ref: Ref) -> Object | None:
        """It, or None if it is not there.

        Raises:
            ClusterError: that cannot be told.
        """

    def delete(self, ref: Ref) -> None:
        """Delete it; returns before its pods are gone. Fine if it is not there.

        Raises:
            ClusterError: it was not deleted.
        """


class OwnDoor:
    """Straight through the official client."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    def create(self, raycluster: Object) -> Object:
        """Create, not apply: of two that start the same cluster at once, one wins."""
        try:
            return self._client.create(raycluster)
        except ClusterInUse:
            live = self._client.get(Ref.of(raycluster))
            if live is not None and is_same_up(live, raycluster):
                return live  # it had arrived; only the answer was lost
            raise

    def get(self, ref: Ref) -> Object | None:
        return self._client.get(ref)

    def delete(self, ref: Ref) -> None:
        self._client.delete(ref)


def is_same_up(one: Object, other: Object) -> bool:
    """Whether two RayClusters come from the same call of ``up``."""
    path = ("metadata", "annotations", UP_ANNOTATION)
    return at(one, *path) is not None and at(one, *path) == at(other, *path)
