"""Logs and commands in pods, over real streams; the API server is a fake."""

from __future__ import annotations

import pty
import termios

import pytest
from kube_server import FakeOperator, KubeServer

from eksml import Cluster, backends
from eksml.backends.kube import KubeRunning
from eksml.errors import ClusterError, InvalidSpec


@pytest.fixture
def running(kube: KubeServer, operator: FakeOperator, cluster: Cluster) -> KubeRunning:
    found = backends.up(cluster, progress=False)
    assert isinstance(found, KubeRunning)
    return found


def test_the_last_lines_of_a_node_are_read(kube: KubeServer, running: KubeRunning) -> None:
    kube.logs["demo-head", False] = "one\ntwo\nthree\n"
    assert list(running.logs(lines=2)) == ["two", "three"]
    assert list(running.logs("demo-head", lines=2)) == ["two", "three"]
    assert list(running.logs(follow=True)) == ["one", "two", "three"]


def test_the_log_of_the_container_before_is_read(kube: KubeServer, running: KubeRunning) -> None:
    kube.logs["demo-head", True] = "out of memory\n"
    assert list(running.logs(previous=True)) == ["out of memory"]


def test_a_node_that_is_not_there_is_told_with_those_that_are(running: KubeRunning) -> None:
    with pytest.raises(InvalidSpec, match="Its nodes: demo-head, demo-cpu-worker-00002"):
        list(running.logs("gpu-7"))


def test_a_command_runs_and_its_exit_code_comes_back(
    kube: KubeServer, running: KubeRunning
) -> None:
    kube.exec = lambda pod, command: (3, f"{pod}: {command}\n" * 2000, "and this\n")
    ended = running.exec(["ray", "status"], node="head")
    assert ended.exit_code == 3
    assert ended.stdout == "demo-head: ['ray', 'status']\n" * 2000
    assert ended.stderr == "and this\n"
    kube.exec = lambda pod, command: (0, "", "")
    assert running.exec(["true"]).exit_code == 0


def test_a_command_that_may_not_be_run_is_told(kube: KubeServer, running: KubeRunning) -> None:
    kube.forbidden.append(("GET", "/exec"))
    with pytest.raises(ClusterError, match="No command can be run in Pod default/demo-head"):
        running.exec(["true"])


def test_a_session_at_a_terminal_ends_with_its_exit_code(
    kube: KubeServer,
    running: KubeRunning,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    kube.exec = lambda pod, command: (7, f"{pod} $ {' '.join(command)} ü\r\n", "")
    keyboard, terminal = pty.openpty()
    with open(keyboard, "wb", buffering=0), open(terminal) as stdin:
        before = termios.tcgetattr(terminal)
        monkeypatch.setattr("sys.stdin", stdin)
        assert running.shell(["bash"]) == 7
        assert termios.tcgetattr(terminal) == before, "the terminal is as it was"
    assert "demo-head $ bash ü\r\n".encode() in capfdbinary.readouterr().out


def test_a_session_wants_a_terminal(running: KubeRunning) -> None:
    with pytest.raises(ClusterError, match="wants a terminal"):
        running.shell()
