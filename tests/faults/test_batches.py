"""FAULTS cases 12, 14 and 15: whatever is killed, every row comes out once, and what was committed
is not computed again. On local files and on S3, with processes that are really killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import eksml
from eksml.batches import ledger
from eksml.runs import Run
from eksml.runs.lease import read_lease
from eksml.storage import URI

sys.path.insert(0, str(Path(__file__).parent.parent / "batches"))
sys.path.insert(0, str(Path(__file__).parent.parent))
from counted import Counted, computed, pids, read_output, write_input
from tiny_llm import tiny_llm

KILLS = int(os.environ.get("EKSML_KILLS", "1"))
"""Processes that are killed in one run; `make faults` asks for 20."""
ROWS_PER_BLOCK = 50

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(s3_server) -> Iterator[eksml.backends.Running]:
    """A head without room for workers, and two nodes; all of them may use the test's S3."""
    spec = eksml.Cluster(
        name=f"batch-faults-{os.getpid()}",
        head={"cpus": 0},
        groups=(eksml.cpu(name="cpu", cpus=1, nodes=2),),
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_server.env().items():
            patch.setenv(name, value)
        with spec.up() as running:
            yield running


def counted(notes: Path, pause_s: float):
    return eksml.batches.callable_model(
        Counted, arguments={"notes": str(notes), "pause_s": pause_s}, batch_rows=ROWS_PER_BLOCK
    )


def assert_each_row_once(output: URI, rows: int) -> None:
    table = read_output(output)
    n = table["n"].to_numpy()
    assert n.tolist() == list(range(rows))
    assert (table["square"].to_numpy() == n**2).all()


def committed_rows(run: Run) -> int:
    return len(ledger.keys(run.uri)) * ROWS_PER_BLOCK


def wait_for(run: Run, rows: int, timeout_s: float = 240) -> None:
    end_s = time.monotonic() + timeout_s
    while committed_rows(run) < rows:
        assert time.monotonic() < end_s, run.why()
        assert run.state in ("pending", "running"), run.why()
        time.sleep(0.05)


def points(rng: random.Random, rows: int, count: int) -> list[int]:
    """Rows at which to kill, ascending; not at the very end, where nothing may be left to kill."""
    return sorted(rng.sample(range(ROWS_PER_BLOCK, rows * 9 // 10), count))


SCRIPT = """
import sys
sys.path.insert(0, {helpers!r})
import eksml
from counted import Counted
model = eksml.batches.callable_model(
    Counted, arguments=dict(notes={notes!r}, pause_s={pause_s}), batch_rows={batch_rows})
eksml.batch(model, {data!r}, {output!r}, storage={storage!r}, name={name!r}, workers=2,
            rows_per_file={batch_rows})
"""


def script(folder: Path, name: str = "again", pause_s: float = 0.05) -> list[str]:
    text = SCRIPT.format(
        helpers=str(Path(__file__).parent.parent / "batches"),
        notes=str(folder / "notes"),
        pause_s=pause_s,
        batch_rows=ROWS_PER_BLOCK,
        data=str(folder / "in"),
        output=str(folder / "out"),
        storage=str(folder / "runs"),
        name=name,
    )
    return [sys.executable, "-c", text]


def test_a_killed_script_of_10_000_rows_computes_no_committed_row_again(tmp_path):
    rows = 10_000
    write_input(URI.parse(tmp_path / "in"), rows)
    first = subprocess.Popen(script(tmp_path))
    while not (tmp_path / "runs" / "again" / "run.json").exists():
        assert first.poll() is None
        time.sleep(0.1)
    run = eksml.get_run("again", storage=tmp_path / "runs")
    wait_for(run, rows // 2)
    first.kill()
    first.wait()
    assert run.state == "interrupted"
    while pids(tmp_path / "notes"):  # its workers go with it; they may commit until then
        time.sleep(0.1)
    before = computed(tmp_path / "notes")
    done = set(read_output(URI.parse(tmp_path / "out"))["n"].to_pylist())
    assert len(done) >= rows // 2

    second = subprocess.run(script(tmp_path), check=False, capture_output=True, text=True)

    assert second.returncode == 0, second.stderr
    assert_each_row_once(URI.parse(tmp_path / "out"), rows)
    after = computed(tmp_path / "notes")
    assert [row for row in done if after[row] > before[row]] == []
    print(f"{sum(after.values()) - rows} rows were computed twice")


def test_a_second_run_with_the_same_output_ends_at_once(tmp_path):
    write_input(URI.parse(tmp_path / "in"), 1_000)
    first = subprocess.Popen(script(tmp_path, "first", pause_s=1))
    try:
        while not (tmp_path / "out" / "_eksml_run.json").exists():
            assert first.poll() is None
            time.sleep(0.05)
        began_s = time.monotonic()
        second = subprocess.run(
            script(tmp_path, "second"), check=False, capture_output=True, text=True
        )
        print(f"refused after {time.monotonic() - began_s:.1f} s, with the start of Python")
    finally:
        first.kill()
        first.wait()
    assert second.returncode != 0
    assert "belongs to the run" in second.stderr
    assert not (tmp_path / "runs" / "second").exists()


def test_a_worker_a_node_and_the_driver_are_killed_and_every_row_comes_out_once(cluster, tmp_path):
    folder, rows = URI.parse(tmp_path), 4_000
    write_input(folder / "in", rows)
    run = start(cluster, folder, tmp_path / "notes")

    for number, what in enumerate(["worker", "node", "driver"], 1):
        wait_for(run, rows * number // 4)
        assert kill(what, run, cluster, tmp_path / "notes", random.Random(0))

    run.wait(progress=False)
    assert_each_row_once(folder / "out", rows)
    assert len(ledger.read_all(run.uri)) == rows // ROWS_PER_BLOCK


def test_killed_at_random_on_s3_every_row_comes_out_once(cluster, bucket, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    rows = 2_000 * (KILLS + 1)
    write_input(bucket / "in", rows)
    run = start(cluster, bucket, tmp_path / "notes")
    kinds: Counter[str] = Counter()
    for point in points(rng, rows, KILLS):
        wait_for(run, point)
        what = rng.choice(["worker", "worker", "driver", "node"])
        kinds[what] += kill(what, run, cluster, tmp_path / "notes", rng)

    run.wait(progress=False)

    assert_each_row_once(bucket / "out", rows)
    assert sum(kinds.values()) == KILLS
    twice = sum(computed(tmp_path / "notes").values()) - rows
    print(f"killed {dict(kinds)}; {twice} of {rows} rows were computed twice")
    in_flight = 2 * run.plan()["blocks_in_flight"] * ROWS_PER_BLOCK
    assert twice <= KILLS * in_flight


def start(cluster, folder: URI, notes: Path) -> Run:
    return eksml.batch(
        counted(notes, pause_s=0.2),
        folder / "in",
        folder / "out",
        storage=folder / "runs",
        cluster=cluster,
        workers=2,
        rows_per_file=ROWS_PER_BLOCK,
        wait=False,
    )


def kill(what: str, run: Run, cluster, notes: Path, rng: random.Random) -> bool:
    """Kill a process of the run that lives now; False if there was none."""
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        try:
            if what == "driver":
                os.kill(read_lease(run.uri).pid, signal.SIGKILL)
            elif what == "worker":
                os.kill(rng.choice(pids(notes)), signal.SIGKILL)
            else:
                session = os.getsid(rng.choice(pids(notes)))
                [node] = [node for node in cluster.nodes() if node.pid == session]
                cluster.kill(node.id)
            return True
        except (ProcessLookupError, IndexError, AttributeError):  # between two lives
            time.sleep(0.1)
    return False


@pytest.fixture
def questions(bucket, tmp_path) -> dict[str, str]:
    """A tiny language model, and prompts for it in S3 that are all different."""
    write_input(bucket / "in", 160 * (1 + KILLS // 3))
    return {"model": str(tiny_llm(tmp_path / "model")), "data": str(bucket / "in")}


def generate(questions: dict[str, str], folder: URI, cluster, **call) -> Run:
    model = eksml.batches.llm(
        questions["model"],
        prompt="{text}: {n}",
        chat=False,
        sampling={"max_tokens": 24, "ignore_eos": True},
        engine={"max_num_seqs": 32},
    )
    return eksml.batch(
        model,
        questions["data"],
        folder / "out",
        storage=folder / "runs",
        cluster=cluster,
        rows_per_file=32,
        workers=1,  # two engines would share the test machine's cores
        **call,
    )


def test_killed_at_random_on_s3_a_language_model_gives_the_same_answers(cluster, bucket, questions):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    undisturbed = generate(questions, bucket / "a", cluster)
    run = generate(questions, bucket / "b", cluster, wait=False)
    blocks, killed = run.plan()["blocks"], Counter[str]()
    for count in range(KILLS):
        while len(ledger.keys(run.uri)) < blocks * 0.9 * count / KILLS:
            assert run.state in ("pending", "running"), run.record.error or run.why()
            time.sleep(0.05)
        what = "engine" if count == 0 else rng.choice(["engine", "worker", "driver"])
        killed[what] += kill_of_llm(what, run, cluster)

    run.wait(progress=False)

    print(f"killed {dict(killed)}")
    assert sum(killed.values()) == KILLS
    assert run.result()["errors"] == 0
    assert read_output(bucket / "b" / "out").equals(read_output(bucket / "a" / "out"))
    assert undisturbed.result()["rows"] == run.result()["rows"]


def kill_of_llm(what: str, run: Run, cluster) -> bool:
    """Kill the driver, or an engine of the cluster, or the worker that started one."""
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s:
        with contextlib.suppress(psutil.Error, OSError, AttributeError, ValueError):
            if what == "driver":
                os.kill(read_lease(run.uri).pid, signal.SIGKILL)
                return True
            [engine, *_] = engines(cluster)
            (engine if what == "engine" else engine.parent()).kill()
            return True
        time.sleep(0.1)
    return False


def engines(cluster) -> list[psutil.Process]:
    """Engine processes on the cluster's nodes: a node's processes share a session."""
    nodes = {node.pid for node in cluster.nodes()}
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error, OSError):
            if "EngineCore" in process.info["name"] and os.getsid(process.pid) in nodes:
                found.append(process)
    return found
