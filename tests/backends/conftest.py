"""Real clusters for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eksml import Cluster, cpu, gpu
from eksml.backends.local import LocalRunning


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An EKSML_HOME of this module's own."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKSML_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def trio(home: Path) -> Iterator[LocalRunning]:
    """A head and two workers."""
    cluster = Cluster(
        name="trio",
        groups=(
            cpu(nodes=(1, 2), resources={"disk": 2.0}, labels={"zone": "a"}),
            gpu(gpus=2, market="spot", accelerator="L4"),
        ),
        env={"GREETING": "hello"},
        notice_s=5,
    )
    with cluster.up() as running:
        assert isinstance(running, LocalRunning)
        yield running
