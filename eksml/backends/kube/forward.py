"""A port of the cluster's head on this machine, through the API server."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import closing, suppress
from typing import Any, Self

from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object
from eksml.backends.why.reason import at, condition
from eksml.errors import ClusterNotUp, EksmlError

_CHUNK = 1 << 16
_OPEN_S = 10.0
"""How long a connection waits for a head that is being replaced."""
_PAUSE_S = 0.5


class Forward:
    """Listens on 127.0.0.1 and carries each connection to a port of whatever pod is head now.

    A connection that breaks is broken for whoever made it; the next one finds the new head, so
    that the address stays good while the forward is open. Threads are daemons.
    """

    def __init__(
        self, client: KubeClient, cluster: str, namespace: str, port: int, *, local_port: int = 0
    ) -> None:
        self._client = client
        self._cluster = cluster
        self._namespace = namespace
        self._port = port
        self._head = ""
        self._listener = socket.create_server(("127.0.0.1", local_port), backlog=64)
        self._thread = threading.Thread(
            target=self._accept, name=f"forward to {cluster}", daemon=True
        )
        self._thread.start()

    @property
    def address(self) -> str:
        """``127.0.0.1:port`` on this machine."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        """Take no more connections; those that are open end with their clients."""
        with suppress(OSError):  # wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            try:
                tunnel = self._open()
            except EksmlError:
                return  # a connection that closes at once: every HTTP client says that
            with closing(tunnel.socket(self._port)) as far:
                _carry(near, far)

    def _open(self) -> Any:
        """A tunnel to the head, once there is one."""
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException

        deadline = time.monotonic() + _OPEN_S
        while True:
            try:
                self._head = self._head or self._find()
                return stream.portforward(
                    client.CoreV1Api(
                        self._client.api_client()
                    ).connect_get_namespaced_pod_portforward,
                    self._head,
                    self._namespace,
                    ports=str(self._port),
                )
            except (ApiException, EksmlError) as error:
                self._head = ""
                if time.monotonic() > deadline:
                    raise ClusterNotUp(f"The head of {self._cluster!r} takes no port.") from error
            time.sleep(_PAUSE_S)

    def _find(self) -> str:
        head = head_pod(self._client, self._cluster, self._namespace)
        if head is None:
            raise ClusterNotUp(f"The head of {self._cluster!r} is not running.")
        return str(head["metadata"]["name"])


_sharing = threading.Lock()
_shared: dict[tuple[str, str, str, int], Forward] = {}


def shared(client: KubeClient, cluster: str, namespace: str, port: int) -> Forward:
    """The one forward of this process to that port: whoever asks again gets the same address.

    It lasts until :func:`end_shared`, or the process.
    """
    key = (client.host, namespace, cluster, port)
    with _sharing:
        if key not in _shared:
            _shared[key] = Forward(client, cluster, namespace, port)
        return _shared[key]


def end_shared(client: KubeClient, cluster: str, namespace: str) -> None:
    """Close this process' shared forwards to a cluster."""
    with _sharing:
        for key in [key for key in _shared if key[:3] == (client.host, namespace, cluster)]:
            _shared.pop(key).close()


def head_pod(client: KubeClient, cluster: str, namespace: str) -> Object | None:
    """The pod that is the head now: a ready one before one that is not.

    Raises:
        ClusterError: the pods cannot be listed.
    """
    labels = f"ray.io/cluster={cluster},ray.io/node-type=head"
    pods = [
        pod
        for pod in client.list("v1", "Pod", namespace, labels=labels).items
        if at(pod, "status", "phase") == "Running" and not at(pod, "metadata", "deletionTimestamp")
    ]
    ready = [pod for pod in pods if condition(pod, "Ready").get("status") == "True"]
    return next(iter(ready or pods), None)


def _carry(near: socket.socket, far: Any) -> None:
    """Bytes both ways until either side ends."""
    other = {near: far, far: near}
    while True:
        readable, _, _ = select.select([near, far], [], [])
        for side in readable:
            try:
                data = side.recv(_CHUNK)
                if not data:
                    return
                other[side].sendall(data)
            except OSError:
                return
