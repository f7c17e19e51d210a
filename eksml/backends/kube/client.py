"""The Kubernetes API in seven verbs, over the official client: plain dicts in and out.

Every call is repeated while its failure may pass (409, 429, 5xx, broken connections), with a
growing pause, until the client's patience ends. All of them bear that: what must be new is
created under a fixed name, everything else is applied, read or deleted.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eksml.backends.kube import config
from eksml.backends.kube.objects import Object, Ref
from eksml.backends.kube.refusals import NotServed, Refusal, no_answer
from eksml.cluster.rules import strip_none

MANAGER = "eksml"
"""Our name as an owner of fields."""
PATIENCE_S = 30.0
_CONNECT_S = 5.0
_READ_S = 30.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

Query = Mapping[str, str]


@dataclass(frozen=True)
class Listed:
    """The objects of a list, and from where to watch on."""

    items: tuple[Object, ...]
    resource_version: str


class KubeClient:
    """One Kubernetes. Threads may share it."""

    def __init__(self, access: config.Access, *, patience_s: float = PATIENCE_S) -> None:
        from kubernetes import client

        self.access = access
        self.patience_s = patience_s
        """How long one call is repeated while its failure may pass."""
        self._api = client.ApiClient(access.configuration)
        self._served: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def connect(cls, *, patience_s: float = PATIENCE_S) -> KubeClient:
        """To the Kubernetes that this process is configured for. Asks nothing yet.

        Equal calls give the same client: tokens, connections and what the server told of itself
        are worth keeping for whoever asks every second.

        Raises:
            ClusterError: None is, or its configuration is wrong.
        """
        with _connecting:
            key = (config.identity(), patience_s)
            if key not in _connected:
                _connected[key] = cls(config.load(), patience_s=patience_s)
            return _connected[key]

    @property
    def host(self) -> str:
        """The API server's URL."""
        return str(self.access.configuration.host)

    def get(self, ref: Ref) -> Object | None:
        """The object, or None.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        status, found = self._call("GET", self.path(ref), ref, missing_is_fine=True)
        return None if status == 404 else found

    def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
    ) -> Listed:
        """All objects of a kind that the selectors choose; None: of all namespaces.

        Raises:
            NotServed: this Kubernetes has no such kind.
            ClusterError: the API server refuses, or does not answer.
        """
        path = self.collection(api_version, kind, namespace)
        _, found = self._call("GET", path, f"the list of {kind}s", selectors(labels, fields))
        common = {"apiVersion": api_version, "kind": kind}  # items of a list do not say it
        items = tuple({**common, **item} for item in found.get("items") or ())
        return Listed(items, found["metadata"]["resourceVersion"])

    def create(self, thing: Object, *, dry_run: bool = False) -> Object:
        """Create an object that must be new.

        Raises:
            ClusterInUse: it exists already. (After a lost answer it may be the caller's own.)
            InvalidSpec: the API server does not take it; with every problem that it names.
            ClusterError: the API server refuses, or does not answer.
        """
        ref = Ref.of(thing)
        path = self.collection(ref.api_version, ref.kind, ref.namespace)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", **_dry(dry_run)}
        return self._call("POST", path, ref, query, body=strip_none(thing))[1]

    def apply(
        self, thing: Object, *, force: bool = False, dry_run: bool = False, manager: str = MANAGER
    ) -> Object:
        """Server-side apply: afterwards the object has these fields, whether it was there or not,
        and lacks those that ``manager`` applied before and are not among them.

        Raises:
            ClusterError: another manager owns a field that would change, unless ``force``; the
                API server refuses, or does not answer.
            InvalidSpec: it does not take the object; with every problem that it names.
        """
        ref = Ref.of(thing)
        query = {
            "fieldManager": manager,
            "force": str(force).lower(),
            "fieldValidation": "Strict",
            **_dry(dry_run),
        }
        kind = "application/apply-patch+yaml"
        return self._call("PATCH", self.path(ref), ref, query, strip_none(thing), kind)[1]

    def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]]) -> Object:
        """Apply a JSON patch. A failed ``test`` in it raises InvalidSpec.

        Raises:
            ClusterNotUp: the object is gone.
            ClusterError: the API server refuses, or does not answer.
        """
        query = {"fieldManager": MANAGER}
        kind = "application/json-patch+json"
        return self._call("PATCH", self.path(ref), ref, query, list(operations), kind)[1]

    def delete(self, ref: Ref, *, uid: str | None = None) -> bool:
        """Delete an object, and in the foreground what it owns: it is gone after those are.

        Returns before that. With ``uid``, only if it still is that very object. Returns whether
        there was anything to delete.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        options: dict[str, Any] = {"propagationPolicy": "Foreground"}
        if uid:
            options["preconditions"] = {"uid": uid}
        body = {"kind": "DeleteOptions", "apiVersion": "v1", **options}
        path = self.path(ref)
        return self._call("DELETE", path, ref, body=body, missing_is_fine=True)[0] != 404

    def log(self, pod: Ref, query: Query) -> str:
        """What a container of a pod printed; empty if it has not started.

        Raises:
            ClusterError: the API server refuses, or does not answer.
        """
        from urllib3.exceptions import HTTPError

        try:
            refusal, text = self._send("GET", f"{self.path(pod)}/log", query, None, "")
        except (HTTPError, OSError) as error:
            raise no_answer(error, pod, self.host, 0) from error
        if refusal is None:
            return text.decode(errors="replace")
        if refusal.status in (400, 404):
            return ""
        raise refusal.error(pod, self.host)

    def open(self, path: str, query: Query, what: Ref | str, *, read_s: float | None) -> Any:
        """An answer that goes on: its ``urllib3`` response, to be closed by the caller.

        Tried once: whoever follows a stream knows how to go on.

        Raises:
            Expired: the resource version in ``query`` is too old.
            ClusterError: the API server refuses, or does not answer.
        """
        from urllib3.exceptions import HTTPError

        try:
            answer = self._request("GET", path, query, None, "", (_CONNECT_S, read_s))
            if answer.status == 200:
                return answer.response
            refusal = Refusal.read(answer.status, answer.read())
        except (HTTPError, OSError) as error:
            raise no_answer(error, what, self.host, 0) from error
        raise refusal.error(what, self.host)

    def path(self, ref: Ref) -> str:
        """The URL path of an object."""
        return f"{self.collection(ref.api_version, ref.kind, ref.namespace or '')}/{ref.name}"

    def collection(self, api_version: str, kind: str, namespace: str | None) -> str:
        """The URL path of a kind's objects; ``namespace`` None: all, empty: the context's.

        Raises:
            NotServed: this Kubernetes has no such kind.
        """
        root = _root(api_version)
        if api_version not in self._served:
            self._served[api_version] = self._discover(api_version, kind)
        if kind not in self._served[api_version]:
            raise NotServed(_not_served(api_version, kind))
        plural, namespaced = self._served[api_version][kind]
        if not namespaced or namespace is None:
            return f"{root}/{plural}"
        return f"{root}/namespaces/{namespace or self.access.namespace}/{plural}"

    def api_client(self) -> Any:
        """A fresh ``kubernetes.client.ApiClient``: its streams replace methods of the one they
        are given, which threads that share it would notice."""
        from kubernetes import client

        return client.ApiClient(self.access.configuration)

    def _discover(self, api_version: str, kind: str) -> dict[str, tuple[str, bool]]:
        what = f"what {api_version} serves"
        status, found = self._call("GET", _root(api_version), what, missing_is_fine=True)
        if status == 404:
            raise NotServed(_not_served(api_version, kind))
        return {
            one["kind"]: (one["name"], one["namespaced"])
            for one in found["resources"]
            if "/" not in one["name"]
        }

    def _call(
        self,
        method: str,
        path: str,
        what: Ref | str,
        query: Query | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        missing_is_fine: bool = False,
    ) -> tuple[int, dict[str, Any]]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        began = time.monotonic()
        pause = _FIRST_PAUSE_S
        while True:
            asked_to_wait_s = 0.0
            try:
                refusal, text = self._send(method, path, query or {}, body, content_type)
                if refusal is None:
                    return 200, json.loads(text)
                if refusal.status == 404 and missing_is_fine and refusal.kind != "namespaces":
                    return 404, {}
                failure = refusal.error(what, self.host)
                if not refusal.may_pass:
                    raise failure
                asked_to_wait_s = refusal.retry_after_s
            except ApiException as error:  # TLS: the certificate will not get better
                raise no_answer(error, what, self.host, time.monotonic() - began) from error
            except (HTTPError, OSError, ValueError) as error:
                failure = no_answer(error, what, self.host, time.monotonic() - began)
                failure.__cause__ = error
            wait_s = max(asked_to_wait_s, pause * random.uniform(0.5, 1.0))
            if time.monotonic() + wait_s > began + self.patience_s:
                raise failure
            time.sleep(wait_s)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _send(
        self, method: str, path: str, query: Query, body: Any, content_type: str
    ) -> tuple[Refusal | None, bytes]:
        """One request: a refusal, or the answer's body."""
        most_s = max(1.0, self.patience_s)
        timeouts = (min(_CONNECT_S, most_s), min(_READ_S, most_s))
        answer = self._request(method, path, query, body, content_type, timeouts)
        data: bytes = answer.read()
        if 200 <= answer.status <= 299:
            return None, data
        return Refusal.read(answer.status, data, answer.headers.get("Retry-After")), b""

    def _request(
        self,
        method: str,
        path: str,
        query: Query,
        body: Any,
        content_type: str,
        timeouts: tuple[float, float | None],
    ) -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        request = self._api.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        return self._api.call_api(*request, _request_timeout=timeouts)


_connecting = threading.Lock()
_connected: dict[tuple[object, float], KubeClient] = {}


def selectors(labels: str = "", fields: str = "") -> dict[str, str]:
    """The query of a list or watch."""
    chosen = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in chosen.items() if value}


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


_INSTALLED_BY = {
    "ray.io": "the KubeRay operator",
    "karpenter.sh": "Karpenter",
    "karpenter.k8s.aws": "Karpenter",
    "kueue.x-k8s.io": "Kueue",
    "monitoring.coreos.com": "the Prometheus operator",
    "scheduling.volcano.sh": "Volcano",
}


def _not_served(api_version: str, kind: str) -> str:
    owner = _INSTALLED_BY.get(api_version.partition("/")[0], "what defines it")
    return f"This Kubernetes has no {kind} ({api_version}). Install {owner}."
