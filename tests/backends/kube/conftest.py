"""A fake Kubernetes for each test; see ``tests/kube_server``. No real one can be had here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.crd import CRDS
from kube_server import FakeDashboard, FakeOperator, KubeServer

from eksml import Cluster, cpu, gpu
from eksml.backends.kube import client as kube_client
from eksml.backends.kube import submit
from eksml.backends.kube.client import KubeClient


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The fake holds everything against KubeRay's CRDs, which lie beside the checkout."""
    if not CRDS.is_dir():
        for item in items:
            if "kube" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.skip(reason="KubeRay's CRDs are not beside this"))


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    """A fake API server that this process is configured for."""
    with KubeServer() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("EKSML_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(kube_client, "_FIRST_PAUSE_S", 0.02)
        monkeypatch.setattr(submit, "_TICK_S", 0.1)
        yield server


@pytest.fixture
def operator(kube: KubeServer) -> Iterator[FakeOperator]:
    """A fake operator on it whose pods come up at once, and a fake dashboard behind the head."""
    with (
        FakeOperator(kube) as operator,
        FakeDashboard(operator.ips, operator.token) as dashboard,
    ):
        kube.pod_ports[8265] = dashboard.address
        yield operator


@pytest.fixture
def client(kube: KubeServer) -> KubeClient:
    return KubeClient.connect(patience_s=30)


@pytest.fixture
def cluster() -> Cluster:
    """A head, one to three CPU nodes, and a GPU node."""
    return Cluster(
        name="demo",
        backend="eks",
        groups=(
            cpu("m7i.xlarge", nodes=(1, 3)),
            gpu("g6.xlarge", nodes=1, market="spot"),
        ),
    )
