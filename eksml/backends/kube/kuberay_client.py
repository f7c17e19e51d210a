"""KubeRay's own Python client as a second door.

``up(client=RayClusterApi())``, with ``python_client.kuberay_cluster_api.RayClusterApi`` from
KubeRay's repository. It logs what the API server says and returns None; here that becomes errors.
The package is never imported: an object of its interface is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import is_same_up
from eksml.backends.kube.objects import Object, Ref
from eksml.errors import ClusterError, ClusterInUse, InvalidSpec, Problem

_TRIES = 5
_FIRST_PAUSE_S = 0.2
_SILENT = "KubeRay's client gave no {what}. What the API server told it is in its log."


@runtime_checkable
class RayClusterClient(Protocol):
    """What is used of KubeRay's ``RayClusterApi``."""

    def create_ray_cluster(self, body: Any, k8s_namespace: str = ...) -> Any:
        """The created object, or None after any error."""

    def get_ray_cluster(self, name: str, k8s_namespace: str = ...) -> Any:
        """The object, or None if it is not there, or after any error."""

    def delete_ray_cluster(self, name: str, k8s_namespace: str = ...) -> Any:
        """What was deleted, or None if it was not there, or after any error."""


class KuberayDoor:
    """Drives a ``RayClusterApi``, and asks our own client why whenever that is silent."""

    def __init__(self, api: object, client: KubeClient) -> None:
        if not isinstance(api, RayClusterClient):
            told = f"{type(api).__name__} has no create_ray_cluster, get_ray_cluster and "
            remedy = "Give a RayClusterApi of KubeRay's python_client, or nothing."
            problem = Problem("client", f"{told}delete_ray_cluster.", remedy)
            raise InvalidSpec([problem], subject="the call")
        self._api = api
        self._client = client

    def create(self, raycluster: Object) -> Object:
        """Create it. After a None: was it created all the same, is another there, or why not?"""
        ref = Ref.of(raycluster)
        pause = _FIRST_PAUSE_S
        for _ in range(_TRIES):
            made = _ask(self._api.create_ray_cluster, raycluster, ref)
            if made is not None:
                return dict(made)
            live = self._client.get(ref)
            if live is not None and is_same_up(live, raycluster):
                return live
            if live is not None:
                raise ClusterInUse(f"{ref} exists already.")
            self._client.create(raycluster, dry_run=True)  # raises the reason, unless it passed
            time.sleep(pause)
            pause *= 2
        raise ClusterError(_SILENT.format(what=ref))

    def get(self, ref: Ref) -> Object | None:
        found = _ask(self._api.get_ray_cluster, ref.name, ref)
        return self._client.get(ref) if found is None else dict(found)

    def delete(self, ref: Ref) -> None:
        _ask(self._api.delete_ray_cluster, ref.name, ref)
        live = self._client.get(ref)
        if live is not None and not live["metadata"].get("deletionTimestamp"):
            self._client.delete(ref)


def _ask(call: Callable[..., Any], argument: object, ref: Ref) -> Any:
    """The call's answer; None also for a connection that broke, which it lets pass."""
    from urllib3.exceptions import HTTPError

    try:
        return call(argument, k8s_namespace=ref.namespace)
    except (HTTPError, OSError):
        return None
