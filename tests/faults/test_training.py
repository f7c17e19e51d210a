"""Kill a training run anywhere: it ends with the weights and losses of one that was not killed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from loops import TOTAL, fit, outcome

import eksml
from eksml.runs.lease import read_lease
from eksml.runs.progress import read_progress
from eksml.runs.tail import Tail

KILLS = int(os.environ.get("EKSML_KILLS", "1"))
"""Kill points of each kind."""
KILLS_A_RUN = 5
EVERY = 10
CALL = {
    "workers": 2,
    "checkpoint": {"every_steps": EVERY},
    "max_failures": KILLS_A_RUN,
}

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster():
    """A head that holds no rank, as on EKS, and two nodes that hold one each."""
    spec = eksml.Cluster(
        name=f"faults-{os.getpid()}",
        head={"cpus": 0},
        groups=(eksml.cpu(name="cpu", cpus=1, nodes=2),),
    )
    with spec.up() as running:
        yield running


def kill_points(count: int) -> list[list[int]]:
    """Random steps to kill at, ascending, a few for each run; the seed is printed."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    sizes = [min(KILLS_A_RUN, count - i) for i in range(0, count, KILLS_A_RUN)]
    # Not in the last seconds: what is killed after the end needs no restart
    return [sorted(rng.sample(range(3, TOTAL - 40), size)) for size in sizes]


def wait_for_step(run, step: int, words: Path, after: int = 0, timeout_s: float = 240) -> int:
    """Wait until the run is past ``step`` in a later start of its workers than the one whose first
    rank had the pid ``after``; gives the pid that it has now."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        progress, word = read_progress(run.uri), words / "rank0"
        if progress and word.exists() and int(word.read_text()) != after:
            fresh = progress.updated_s > word.stat().st_mtime
            if fresh and progress.phase == "running" and progress.step >= step:
                return int(word.read_text())
        assert run.state in ("pending", "running"), run.why()
        time.sleep(0.1)
    raise AssertionError(f"step {step} not reached: {run.why()}")


def pid_of(folder: Path, rank: int) -> int:
    return int((folder / f"rank{rank}").read_text())


def test_a_killed_worker_changes_nothing(embedded_ray, undisturbed, tmp_path):
    """And those that go on in its place are forked, with everything imported."""
    for points in kill_points(KILLS):
        config = {"total": TOTAL, "sleep_s": 0.1, "pids": str(tmp_path)}
        run = eksml.train(fit, config=config, storage=tmp_path / "runs", wait=False, **CALL)
        first = 0
        for count, point in enumerate(points):
            first = wait_for_step(run, point, tmp_path, after=first)
            os.kill(pid_of(tmp_path, count % 2), signal.SIGKILL)
        wait_for_step(run, points[-1], tmp_path, after=first)
        for rank in (0, 1):
            parent = psutil.Process(pid_of(tmp_path, rank)).parent()
            assert any(part.endswith("template.py") for part in parent.cmdline())
        run.wait(progress=False)
        assert outcome(run) == undisturbed(TOTAL)
        assert run.receipt().restarts == len(points)


def test_a_killed_node_and_then_a_killed_driver_change_nothing(cluster, undisturbed, tmp_path):
    """In one run: what was killed once can be killed again."""
    for points in kill_points(2 * KILLS):
        config = {"total": TOTAL, "sleep_s": 0.1, "pids": str(tmp_path)}
        run = eksml.train(
            fit, config=config, storage=tmp_path / "runs", cluster=cluster, wait=False, **CALL
        )
        first, kills = 0, Counter[str]()
        for point, victim in zip(points, itertools.cycle(["node", "driver"]), strict=False):
            first = wait_for_step(run, point, tmp_path, after=first)
            if victim == "node":
                cluster.kill(node_of(cluster, tmp_path).id)
            else:
                os.kill(read_lease(run.uri).pid, signal.SIGKILL)
            kills[victim] += 1
        run.wait(progress=False)
        assert outcome(run) == undisturbed(TOTAL)
        assert run.receipt().attempts == kills["driver"] + 1
        assert run.receipt().restarts == len(points)


def node_of(cluster, words: Path):
    """The node of the second rank: a node's processes share a session."""
    session = os.getsid(pid_of(words, 1))
    [node] = [node for node in cluster.nodes() if node.pid == session]
    return node


def test_a_reclaimed_node_loses_no_step(cluster, undisturbed, tmp_path):
    config = {"total": TOTAL, "sleep_s": 0.15, "pids": str(tmp_path)}
    options = {**CALL, "checkpoint": {"every_s": 3600}, "max_failures": 0}
    run = eksml.train(
        fit, config=config, storage=tmp_path / "runs", cluster=cluster, wait=False, **options
    )
    wait_for_step(run, 10, tmp_path)
    cluster.interrupt(node_of(cluster, tmp_path).id)
    run.wait(progress=False)
    assert outcome(run) == undisturbed(TOTAL)
    events = [entry.record for entry in Tail(run.uri / "events").new()]
    stopped = next(event["step"] for event in events if event["kind"] == "ended")
    restored = [e["restored_step"] for e in events if e["kind"] == "incarnation_started"]
    assert restored == [0, stopped]
