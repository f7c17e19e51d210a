"""A port of the head here: through a real websocket to a real socket; the API server is a fake."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest
from kube_server import FakeOperator, KubeServer

from eksml import Cluster, backends
from eksml.backends.kube import KubeRunning, config
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.forward import Forward


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets."""

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=repeat, args=(near,), daemon=True).start()

    def repeat(near: socket.socket) -> None:
        with near:
            while data := near.recv(1 << 16):
                near.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def exchange(forward: Forward, data: bytes) -> bytes:
    host, _, port = forward.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as line:
        threading.Thread(target=line.sendall, args=(data,), daemon=True).start()
        received = b""
        while len(received) < len(data) and (chunk := line.recv(1 << 16)):
            received += chunk
        return received


def test_bytes_pass_both_ways_on_several_connections(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster, echo: tuple[str, int]
) -> None:
    kube.pod_ports[7777] = echo
    running = backends.up(cluster, progress=False)
    assert isinstance(running, KubeRunning)
    with running, running.forward(7777) as forward:
        large = bytes(range(256)) * 400
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: answers.append(exchange(forward, large)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [large] * 3


def test_the_address_stays_good_when_the_head_is_replaced(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster, echo: tuple[str, int]
) -> None:
    kube.pod_ports[7777] = echo
    running = backends.up(cluster, progress=False)
    assert isinstance(running, KubeRunning)
    with running, running.forward(7777) as forward:
        assert exchange(forward, b"before") == b"before"
        with kube.store.changed:
            kube.store.delete(("v1", "Pod", "default", "demo-head"))
        assert exchange(forward, b"after") == b"after"


def test_whoever_asks_again_and_again_gets_the_same_address(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with backends.up(cluster, progress=False) as running:
        first = running.jobs_address
        assert backends.find("demo") is not None
        asked = len(kube.faults.requests)
        found = [backends.find("demo") for _ in range(5)]
        assert {one.jobs_address for one in found if one is not None} == {first}
        assert len(kube.faults.requests) == asked + 10, "one for the name, one for the address"
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(first, timeout=2)


def test_a_port_on_which_nobody_listens_closes_the_connection(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    running = backends.up(cluster, progress=False)
    assert isinstance(running, KubeRunning)
    with running, running.forward(7778) as forward:
        assert exchange(forward, b"hello") == b""


def test_a_closed_forward_takes_no_connection(kube: KubeServer, client: KubeClient) -> None:
    forward = Forward(client, "demo", "default", 8265)
    url = f"http://{forward.address}"
    forward.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=2)


def test_inside_kubernetes_the_service_has_a_name(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    with backends.up(cluster, progress=False) as running:
        access = KubeClient.connect().access
        inside = config.Access(access.configuration, access.namespace, in_cluster=True)
        raycluster = kube.store.get(("ray.io/v1", "RayCluster", "default", "demo"))
        pod = KubeRunning(KubeClient(inside), raycluster)
        assert pod.jobs_address == "http://demo-head-svc.default.svc.cluster.local:8265"
        assert pod.address == "demo-head-svc.default.svc.cluster.local:6379"
        assert running.jobs_address.startswith("http://127.0.0.1:")
