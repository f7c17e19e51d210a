"""Kill a stream anywhere: its effects are those of one that was not killed, each of them once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import family
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import eksml
import eksml.streams as streams
from eksml.errors import AlreadyExists, Fenced
from eksml.runs.driver import Attempt, create
from eksml.runs.lease import Owner, read_lease
from eksml.storage import URI
from eksml.streams import checkpoints, stream
from eksml.streams.check import checked
from eksml.streams.coordinator import Coordinator
from eksml.streams.job import StreamJob

KILLS = int(os.environ.get("EKSML_KILLS", "1"))
"""Kills of each kind; `make faults` asks for 20."""
EVENTS = int(os.environ.get("EKSML_EVENTS", "100000"))
SPLITS, KEYS, CHUNK = 2, 100, 500

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def paced(seconds):
    """Numbered events in columns, from each of two splits half of them, over ``seconds``."""

    def events(split, start):
        half = EVENTS // SPLITS
        for first in range(start, half, CHUNK):
            number = np.arange(first, min(first + CHUNK, half)) * SPLITS + split
            time.sleep(seconds * CHUNK / half)
            yield pa.table({"key": number % KEYS, "number": number, "at": number / 1000})

    return events


def graph(folder, seconds, events=paced):
    return (
        streams.generator(events(seconds), splits=SPLITS)
        .with_time("at", delay="30s")
        .key_by("key")
        .window(streams.tumbling("5s"), {"total": ("number", "sum"), "events": "count"})
        .to(streams.files(folder))
    )


def assert_exact(folder):
    """Every window of every key once, with each event in it once."""
    rows = pq.read_table(folder).to_pandas()
    assert not rows.duplicated(["key", "window_start"]).any()
    number = np.arange(EVENTS)
    window = number // 5000
    place = window * KEYS + number % KEYS
    wanted = np.bincount(place, weights=number)
    start = rows.window_start.map(lambda moment: int(moment.timestamp()) // 5).to_numpy()
    found = np.zeros(len(wanted))
    found[start * KEYS + rows.key.to_numpy()] = rows.total.to_numpy()
    assert (found == wanted).all()
    assert rows.events.sum() == EVENTS


def task_pids() -> list[int]:
    """The processes of this Ray that hold a task."""
    return [process.pid for process in family.titled("Task")]


def wait_for_epoch(run, epoch: int, timeout_s: float = 120) -> None:
    end_s = time.monotonic() + timeout_s
    while max(checkpoints.epochs_of(run.uri), default=0) < epoch:
        assert run.state in ("pending", "running"), run.why()
        assert time.monotonic() < end_s, run.why()
        time.sleep(0.02)


def random_moments(count: int):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    return rng, [rng.uniform(0.1, 0.6) for _ in range(count)]


def test_killed_tasks_change_nothing(embedded_ray, tmp_path):
    rng, moments = random_moments(max(2, KILLS))  # what was killed once can be killed again
    run = stream(
        graph(tmp_path / "out", 6 + len(moments)),
        storage=tmp_path,
        parallelism=2,
        checkpoint_every_s=0.3,
        max_failures=len(moments) + 3,
        wait=False,
    )
    kills = 0
    for moment in moments:
        before = max(checkpoints.epochs_of(run.uri), default=0)
        wait_for_epoch(run, before + 1)
        time.sleep(moment)
        pids = task_pids()
        if run.state != "running" or not pids:
            break
        os.kill(rng.choice(pids), signal.SIGKILL)
        kills += 1
    run.wait(progress=False)
    assert kills == len(moments)
    assert run.result()["restarts"] >= 1
    assert_exact(tmp_path / "out")


SCRIPT = """
import sys
sys.path[:0] = {folders!r}
import eksml
from eksml.streams import stream
from test_streams import graph
stream(graph({out!r}, {seconds!r}), storage={storage!r}, name="mine", parallelism=1,
       checkpoint_every_s=0.3)
"""


def script(tmp_path, seconds):
    code = SCRIPT.format(
        folders=[str(folder) for folder in Path(__file__).parents[:2]],
        out=str(tmp_path / "out"),
        seconds=seconds,
        storage=str(tmp_path),
    )
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_killed_driver_changes_nothing_when_it_is_started_again(tmp_path):
    _, moments = random_moments(KILLS)
    run = None
    for moment in moments:
        process = script(tmp_path, 6 + 2 * KILLS)
        while not (tmp_path / "mine" / "run.json").exists():
            assert process.poll() is None
            time.sleep(0.1)
        run = eksml.get_run("mine", storage=tmp_path)
        before = max(checkpoints.epochs_of(run.uri), default=0)
        while max(checkpoints.epochs_of(run.uri), default=0) < before + 2:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(moment)
        process.kill()
        process.wait()
        assert run.state == "interrupted"
    assert script(tmp_path, 1).wait() == 0
    assert run.state == "succeeded"
    assert_exact(tmp_path / "out")


@pytest.fixture(scope="module")
def cluster():
    """A head that holds no task, as on EKS, and two nodes."""
    spec = eksml.Cluster(
        name=f"streams-{os.getpid()}",
        head={"cpus": 1},
        groups=(eksml.cpu(name="cpu", cpus=2, nodes=2),),
    )
    with spec.up() as running:
        yield running


def test_a_killed_node_and_a_killed_driver_on_a_cluster_change_nothing(cluster, tmp_path):
    run = stream(
        graph(tmp_path / "out", 10),
        storage=tmp_path,
        cluster=cluster,
        parallelism=2,
        checkpoint_every_s=0.5,
        max_failures=20,
        wait=False,
    )
    wait_for_epoch(run, 2, 240)
    node = next(node for node in cluster.nodes() if node.group == "cpu")
    cluster.kill(node.id)
    wait_for_epoch(run, max(checkpoints.epochs_of(run.uri)) + 2, 240)
    os.kill(read_lease(run.uri).pid, signal.SIGKILL)
    run.wait(progress=False)
    assert run.receipt().attempts == 2
    assert_exact(tmp_path / "out")


def test_a_slow_sink_holds_the_source_back_and_loses_nothing(embedded_ray, tmp_path):
    """Events wait at the source and not in memory: what is between it and the sink is bounded, and
    so is what the tasks take, while hundreds of megabytes go through them."""
    chunks, read, written = 800, tmp_path / "read", tmp_path / "written"
    read.touch()

    def counted(split, start):
        filler = pa.array(["x" * 1000]).take(pa.array([0] * 1000))
        for first in range(start // 1000, chunks):
            with read.open("ab") as file:
                file.write(b".")
            number = np.arange(first * 1000, first * 1000 + 1000)
            yield pa.table({"number": number, "key": number % 3, "filler": filler})

    def slow(columns):
        time.sleep(0.01)
        behind = read.stat().st_size - columns["number"].max() // 1000
        with written.open("a") as file:
            file.write(f"{len(columns['number'])} {behind}\n")

    run = stream(
        streams.generator(counted)
        .key_by("key")
        .filter(lambda columns: columns["key"] == 1, columns=True)
        .to(streams.call(slow, columns=True)),
        storage=tmp_path,
        parallelism=2,
        wait=False,
    )
    memory = []
    while run.state in ("pending", "running"):
        memory.append((read.stat().st_size, private_memory_of_tasks()))
        time.sleep(0.1)
    run.wait(progress=False)
    counts, behind = zip(*(map(int, line.split()) for line in written.open()), strict=True)
    assert sum(counts) == sum(n % 3 == 1 for n in range(chunks * 1000))
    # 4 messages on the way, one in work, one to be sent: each of 8,192 events at the most, of
    # which this task gets every third
    assert max(behind) <= 6 * 8.192 * 3 + 2
    early = max(rss for so_far, rss in memory if so_far <= chunks / 2)
    later = max(rss for so_far, rss in memory if so_far > chunks / 2)
    print(
        f"the tasks: {early / 1e6:.0f} MB for the first half, {later / 1e6:.0f} MB for the second"
    )
    assert later <= 1.1 * early


def private_memory_of_tasks() -> int:
    """Bytes that the tasks' processes hold for themselves; what they share is Ray's object store,
    whose pages they touch one after another."""
    found = 0
    for process in family.titled("Task"):
        with contextlib.suppress(psutil.Error):
            memory = process.memory_info()
            found += memory.rss - memory.shared
    return found


def test_a_zombie_writes_nothing_after_its_successor_has_taken_over(embedded_ray, tmp_path):
    """The first owner sleeps past its lease, and wakes while the second one works."""
    run = create(URI.parse(tmp_path), "mine", verb="stream", entry="graph")
    job = StreamJob(checkpoint_every_s=0.2)
    found = checked(graph(tmp_path / "out", 6))
    asleep, awake = threading.Event(), threading.Event()
    ended: list[BaseException] = []
    original = Attempt.check_fenced

    class Sleepy(Attempt):
        """Sleeps just after it has seen that it is not fenced, the worst moment."""

        def check_fenced(self) -> None:
            original(self)
            mine = threading.current_thread() is thread
            if mine and checkpoints.epochs_of(run) and not asleep.is_set():
                asleep.set()
                awake.wait()

    def first():
        try:
            with Sleepy(run) as attempt:
                Coordinator(attempt, found, job).run()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    asleep.wait()
    stale = Owner.here(1).model_copy(update={"pid": 2**22 + 1})
    (run / "lease.json").write_json(stale.model_dump())  # as if its machine were gone
    second = threading.Thread(target=lambda: _drive(run, found, job))
    second.start()
    while max(checkpoints.epochs_of(run), default=0) < 3:
        time.sleep(0.05)
    awake.set()
    thread.join()
    second.join()
    assert isinstance(ended[0], Fenced | AlreadyExists)
    assert_exact(tmp_path / "out")


def _drive(run, found, job):
    with Attempt(run) as attempt:
        attempt.write_result(Coordinator(attempt, found, job).run())
