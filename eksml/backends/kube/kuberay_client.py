"""KubeRay's own Python client as a second door.

``up(client=RayClusterApi())`` and ``submit(client=RayjobApi())``, with the classes of KubeRay's
``python_client``. They log what the API server says and return None; here that becomes errors.
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


@runtime_checkable
class RayClusterClient(Protocol):
    """What is used of KubeRay's ``RayClusterApi``."""

    def create_ray_cluster(self, body: Any, k8s_namespace: str = ...) -> Any:
        """The created object, or None after any error."""

    def get_ray_cluster(self, name: str, k8s_namespace: str = ...) -> Any:
        """The object, or None if it is not there, or after any error."""

    def delete_ray_cluster(self, name: str, k8s_namespace: str = ...) -> Any:
        """What was deleted, or None if it was not there, or after any error."""


@runtime_checkable
class RayJobClient(Protocol):
    """What is used of KubeRay's ``RayjobApi``."""

    def submit_job(self, k8s_namespace: str = ..., job: Any = ...) -> Any:
        """The created object, or None after any error."""


class KuberayDoor:
    """Drives a ``RayClusterApi``, and asks our own client why whenever that is silent."""

    def __init__(self, api: object, client: KubeClient) -> None:
        if not isinstance(api, RayClusterClient):
            methods = "create_ray_cluster, get_ray_cluster and delete_ray_cluster"
            raise _no_client(api, "RayClusterApi", methods)
        self._api = api
        self._client = client

    def create(self, raycluster: Object) -> Object:
        place = raycluster["metadata"]["namespace"]
        return _create(
            self._client,
            raycluster,
            lambda: self._api.create_ray_cluster(raycluster, k8s_namespace=place),
        )

    def get(self, ref: Ref) -> Object | None:
        found = _ask(lambda: self._api.get_ray_cluster(ref.name, k8s_namespace=str(ref.namespace)))
        return self._client.get(ref) if found is None else dict(found)

    def delete(self, ref: Ref) -> None:
        _ask(lambda: self._api.delete_ray_cluster(ref.name, k8s_namespace=str(ref.namespace)))
        live = self._client.get(ref)
        if live is not None and not live["metadata"].get("deletionTimestamp"):
            self._client.delete(ref)


def create_job(api: object, client: KubeClient, rayjob: Object) -> Object:
    """Create a RayJob through a ``RayjobApi``.

    Raises:
        InvalidSpec: ``api`` is none, or the API server does not take the job.
        ClusterInUse: a job of that name is there, by another call.
        ClusterError: it was not created; with the reason.
    """
    if not isinstance(api, RayJobClient):
        raise _no_client(api, "RayjobApi", "submit_job")
    place = rayjob["metadata"]["namespace"]
    return _create(client, rayjob, lambda: api.submit_job(k8s_namespace=place, job=rayjob))


def _create(client: KubeClient, thing: Object, call: Callable[[], Any]) -> Object:
    """Create. After a None: was it created all the same, is another there, or why not?"""
    ref = Ref.of(thing)
    pause = _FIRST_PAUSE_S
    for _ in range(_TRIES):
        made = _ask(call)
        if made is not None:
            return dict(made)
        live = client.get(ref)
        if live is not None and is_same_up(live, thing):
            return live
        if live is not None:
            raise ClusterInUse(f"{ref} exists already.")
        client.create(thing, dry_run=True)  # raises the reason, unless it has passed
        time.sleep(pause)
        pause *= 2
    raise ClusterError(f"KubeRay's client did not create {ref}. Its log holds the reason.")


def _ask(call: Callable[[], Any]) -> Any:
    """The call's answer; None also for a connection that broke, which KubeRay's client raises."""
    from urllib3.exceptions import HTTPError

    try:
        return call()
    except (HTTPError, OSError):
        return None


def _no_client(given: object, name: str, methods: str) -> InvalidSpec:
    told = f"{type(given).__name__} has no {methods}."
    remedy = f"Give a {name} of KubeRay's python_client, or nothing."
    return InvalidSpec([Problem("client", told, remedy)], subject="the call")
