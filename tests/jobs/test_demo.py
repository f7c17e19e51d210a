"""``make demo``: what it promises, and that it leaves nothing behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

import eksml

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "EKSML_HOME": str(tmp_path / "home"), "PYTHONUNBUFFERED": "1"}


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, ROOT / "jobs" / "demo.py", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_of(environment: dict[str, str]) -> list[str]:
    """Processes that still know this test's EKSML_HOME."""
    mark = environment["EKSML_HOME"]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            if process.environ().get("EKSML_HOME") == mark and process.status() != "zombie":
                found.append(" ".join(process.info["cmdline"]))
        except psutil.Error:
            continue
    return found


def assert_nothing_is_left(environment: dict[str, str]) -> None:
    limit = time.monotonic() + 30
    while (left := left_of(environment)) and time.monotonic() < limit:
        time.sleep(0.2)
    assert left == []


def test_a_killed_node_leaves_no_trace_in_the_result(
    environment: dict[str, str], tmp_path: Path
) -> None:
    demo = start(environment, "--steps", "600", "--storage", str(tmp_path / "runs"))
    printed, _ = demo.communicate(timeout=580)

    assert demo.returncode == 0, printed
    assert "kill -9" in printed
    assert "left no trace" in printed
    killed = next(run for run in eksml.list_runs(tmp_path / "runs") if "killed" in run.name)
    assert killed.receipt().restarts == 1
    assert killed.result()["accuracy"] >= 0.97
    assert (tmp_path / "runs" / killed.name / "loss.png").stat().st_size > 10_000
    assert_nothing_is_left(environment)


def test_ctrl_c_in_the_middle_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    demo = start(environment, "--storage", str(tmp_path / "runs"))
    assert demo.stdout is not None
    for line in demo.stdout:
        if "It waits for its job" in line or "Its driver runs" in line:
            break

    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    printed, _ = demo.communicate(timeout=120)

    assert demo.returncode == 130, printed
    assert "Stopped; the cluster is down" in printed
    assert "Traceback" not in printed
    assert_nothing_is_left(environment)
