"""However a cluster ends, nothing of it is left, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from census import (  # type: ignore[import-not-found]
    in_sessions,
    leaders_of,
    python,
    temp_of,
    traces,
    wait_until,
)

from eksml import Cluster, backends, cpu
from eksml.backends import commands, local
from eksml.backends.local import LocalRunning
from eksml.errors import ClusterError, ClusterNotUp, ClusterStartFailed

pytestmark = pytest.mark.long

OWNER = """
import time
from eksml import Cluster
with Cluster(name="owned").up() as running:
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def owner(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a cluster of the name ``owned``."""
    process = python(OWNER, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.wait()


def owned() -> LocalRunning:
    found = backends.find("owned")
    assert isinstance(found, LocalRunning)
    return found


def keeper_of(running: LocalRunning) -> int:
    assert running._keeper is not None
    return running._keeper.pid


def assert_nothing_left(
    home: Path, temp: Path | None = None, leaders: Sequence[int] = (), name: str = "*"
) -> None:
    wait_until(lambda: not in_sessions(list(leaders)), "no process in the nodes' sessions", 20)
    wait_until(lambda: not list((home / "clusters").glob(f"{name}/")), "no folder", 20)
    words = [f"{home}/clusters/{name.strip('*')}"] + ([str(temp)] if temp else [])
    wait_until(lambda: not traces(*words), "no process names the cluster's folders", 20)
    assert temp is None or not temp.exists()


def test_a_cluster_ends_with_its_owner(owner: subprocess.Popen[str], home: Path) -> None:
    running = owned()
    temp, leaders = temp_of(running), leaders_of(running)
    os.killpg(owner.pid, signal.SIGKILL)
    assert_nothing_left(home, temp, leaders)


def test_a_cluster_ends_with_its_keeper(owner: subprocess.Popen[str], home: Path) -> None:
    running = owned()
    temp, leaders = temp_of(running), leaders_of(running)
    os.kill(keeper_of(running), signal.SIGKILL)
    assert_nothing_left(home, temp, leaders)
    with pytest.raises(ClusterNotUp):
        running.status()


def test_down_ends_a_cluster_whose_keeper_hangs(
    owner: subprocess.Popen[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_DOWN_S", 1.0)
    monkeypatch.setattr(commands, "_TIMEOUT_S", 1.0)
    running = owned()
    temp, leaders = temp_of(running), leaders_of(running)
    os.kill(keeper_of(running), signal.SIGSTOP)
    running.down()
    assert_nothing_left(home, temp, leaders)


def test_the_next_call_sweeps_up_when_keeper_and_guard_are_killed(
    owner: subprocess.Popen[str], home: Path
) -> None:
    running = owned()
    temp, leaders = temp_of(running), leaders_of(running)
    keeper = keeper_of(running)
    os.kill(psutil.Process(keeper).ppid(), signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)
    wait_until(
        lambda: not set(leaders) & set(in_sessions(leaders)), "the kernel has ended each ray start"
    )
    assert temp.exists()
    assert backends.list_up() == []
    assert_nothing_left(home, temp, leaders)


def test_a_start_that_fails_says_why_and_leaves_nothing(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cluster = Cluster.from_yaml(
            f"name: clash\nhead: {{dashboard_port: {taken.getsockname()[1]}}}"
        )
        with pytest.raises(ClusterStartFailed, match=str(cluster.head.dashboard_port)):
            cluster.up()
    assert_nothing_left(home)


def test_a_cluster_that_is_not_ready_in_time_is_taken_down(home: Path) -> None:
    with pytest.raises(ClusterStartFailed, match=r"0 of 2 nodes of 'slow' joined in 0.5 s"):
        Cluster(name="slow", groups=(cpu(),)).up(timeout_s=0.5)
    assert_nothing_left(home)


def test_down_leaves_nothing_of_its_cluster_and_all_of_others_and_of_a_foreign_ray(
    home: Path, tmp_path: Path
) -> None:
    folder = tempfile.mkdtemp(prefix="foreign-", dir="/tmp")  # Ray's sockets need a short path
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--head", "--block"]
    ports = ["--port=0", "--dashboard-port=19265", "--ray-client-server-port=19266"]
    workers = ["--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={folder}"]
    with (
        open(tmp_path / "foreign.log", "w") as log,
        subprocess.Popen(
            ray + ports + workers, stdout=log, stderr=log, start_new_session=True
        ) as foreign,
    ):
        try:
            wait_until(lambda: "Ray runtime started" in Path(log.name).read_text(), "foreign Ray")
            with Cluster(name="left").up() as left, Cluster(name="right").up() as right:
                assert isinstance(left, LocalRunning)
                assert left.jobs_address != right.jobs_address
                assert {running.name for running in backends.list_up()} == {"left", "right"}
                with pytest.raises(ClusterError, match="refuses the token"):
                    _visit(left.jobs_address, right.token)
                temp, leaders = temp_of(left), leaders_of(left)
                assert temp.exists()
                left.down()
                left.down()
                assert_nothing_left(home, temp, leaders, "left")
                with pytest.raises(ClusterNotUp):
                    left.status()
                assert right.status().phase == "running"
            assert foreign.poll() is None
            assert len(in_sessions([foreign.pid])) > 5
        finally:
            for pid in in_sessions([foreign.pid]):
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)
    assert_nothing_left(home)


def test_other_backends_are_refused_for_now(home: Path) -> None:
    with pytest.raises(ClusterError, match="eks"):
        Cluster(name="far", backend="eks").up()


def _visit(jobs_address: str, token: str) -> None:
    from eksml.backends.dashboard import Dashboard

    Dashboard(jobs_address, token).version()
