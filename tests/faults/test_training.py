"""Kill a training run anywhere: it ends with the weights and losses of one that was not killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    for points in kill_points(max(2, KILLS)):  # what was killed once can be killed again
        config = {"total": TOTAL, "sleep_s": 0.1, "pids": str(tmp_path)}
        run = eksml.train(fit, config=config, storage=tmp_path / "runs", wait=False, **CALL)
        first = 0
        for count, point in enumerate(points):
            first = wait_for_step(run, point, tmp_path, after=first)
            os.kill(pid_of(tmp_path, count % 2), signal.SIGKILL)
        run.wait(progress=False)
        assert outcome(run) == undisturbed(TOTAL)
        assert run.receipt().restarts == len(points)


def test_a_killed_node_changes_nothing(cluster, undisturbed, tmp_path):
    for points in kill_points(KILLS):
        config = {"total": TOTAL, "sleep_s": 0.1, "pids": str(tmp_path)}
        run = eksml.train(
            fit, config=config, storage=tmp_path / "runs", cluster=cluster, wait=False, **CALL
        )
        first = 0
        for point in points:
            first = wait_for_step(run, point, tmp_path, after=first)
            session = os.getsid(pid_of(tmp_path, 1))
            [node] = [node for node in cluster.nodes() if node.pid == session]
            cluster.kill(node.id)
        run.wait(progress=False)
        assert outcome(run) == undisturbed(TOTAL)
        assert run.receipt().restarts == len(points)


def test_a_killed_driver_on_a_cluster_changes_nothing(cluster, undisturbed, tmp_path):
    for points in kill_points(KILLS):
        config = {"total": TOTAL, "sleep_s": 0.1, "pids": str(tmp_path)}
        run = eksml.train(
            fit, config=config, storage=tmp_path / "runs", cluster=cluster, wait=False, **CALL
        )
        first = 0
        for point in points:
            first = wait_for_step(run, point, tmp_path, after=first)
            os.kill(read_lease(run.uri).pid, signal.SIGKILL)
        run.wait(progress=False)
        assert outcome(run) == undisturbed(TOTAL)
        assert run.receipt().attempts == len(points) + 1


def test_a_reclaimed_node_loses_no_step(cluster, undisturbed, tmp_path):
    config = {"total": TOTAL, "sleep_s": 0.15, "pids": str(tmp_path)}
    options = {**CALL, "checkpoint": {"every_s": 3600}, "max_failures": 0}
    run = eksml.train(
        fit, config=config, storage=tmp_path / "runs", cluster=cluster, wait=False, **options
    )
    wait_for_step(run, 10, tmp_path)
    session = os.getsid(pid_of(tmp_path, 1))
    [node] = [node for node in cluster.nodes() if node.pid == session]
    cluster.interrupt(node.id)
    run.wait(progress=False)
    assert outcome(run) == undisturbed(TOTAL)
    events = [entry.record for entry in Tail(run.uri / "events").new()]
    stopped = next(event["step"] for event in events if event["kind"] == "ended")
    restored = [e["restored_step"] for e in events if e["kind"] == "incarnation_started"]
    assert restored == [0, stopped]


SCRIPT = """
import sys
sys.path.insert(0, {loops!r})
import eksml
from loops import fit
eksml.train(fit, config={config!r}, storage={storage!r}, name="again", **{call!r})
"""


def test_a_killed_script_goes_on_when_it_is_started_again(undisturbed, tmp_path):
    config = {"total": TOTAL, "sleep_s": 0.05, "pids": str(tmp_path)}
    script = SCRIPT.format(
        loops=str(Path(__file__).parent.parent),
        config=config,
        storage=str(tmp_path),
        call=CALL,
    )
    [points] = kill_points(1)
    first = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "again" / "run.json").exists():
        time.sleep(0.1)
    run = eksml.get_run("again", storage=tmp_path)
    wait_for_step(run, points[0], tmp_path)
    first.kill()
    first.wait()
    assert run.state == "interrupted"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert outcome(run) == undisturbed(TOTAL)
