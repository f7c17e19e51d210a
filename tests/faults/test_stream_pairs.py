"""Kill a stream between any two ends that promise exactly-once: its effects happen once.

EKSML_EVENTS=1000000 EKSML_KILLS=30 EKSML_PAIRS=all pytest -s tests/faults/test_stream_pairs.py
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from datetime import datetime

import family
import numpy as np
import psutil
import pytest
from stream_ends import KEYS, SINKS, SOURCES

import eksml
import eksml.streams as streams
from eksml.runs.lease import read_lease
from eksml.streams import checkpoints, stream

KILLS = int(os.environ.get("EKSML_KILLS", "1"))
EVENTS = int(os.environ.get("EKSML_EVENTS", "30000"))
WINDOW_S = 5
FEW = [("generator", "nats"), ("kafka", "kafka"), ("nats", "postgres"), ("files", "call")]
"""Every end once."""
ALL = [(source, sink) for source in SOURCES for sink in SINKS]
NAMED = os.environ.get("EKSML_PAIRS", "")
"""``all``, or pairs by name: ``kafka-kafka,nats-files``."""
PAIRS = ALL if NAMED == "all" else [tuple(p.split("-")) for p in NAMED.split(",") if p] or FEW

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def cluster():
    """A head that holds no task, as on EKS, and two nodes."""
    spec = eksml.Cluster(
        name=f"pairs-{os.getpid()}",
        head={"cpus": 1},
        groups=(eksml.cpu(name="cpu", cpus=2, nodes=2),),
    )
    with spec.up() as running:
        yield running


def kinds_of_kills(rng):
    """A sixth of the kills takes the driver, a sixth a whole node, the others one task."""
    sixth = KILLS // 6
    kinds = ["driver"] * sixth + ["node"] * sixth
    kinds += ["task"] * (KILLS - len(kinds))
    rng.shuffle(kinds)
    return kinds


def kill(kind, run, cluster, rng) -> bool:
    """Kill one of that kind; False if none was found at that moment."""
    nodes = [node for node in cluster.nodes() if node.group == "cpu" and node.phase == "running"]
    if kind == "node":
        cluster.kill(rng.choice(nodes).id)
        return True
    pids = [read_lease(run.uri).pid] if kind == "driver" else task_pids(nodes)
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(rng.choice(pids), signal.SIGKILL)
        return True
    return False


def task_pids(nodes) -> list[int]:
    found = []
    for node in nodes:
        with contextlib.suppress(psutil.Error):
            processes = psutil.Process(node.pid).children(recursive=True)
            found += [process.pid for process in family.titled("Task", processes)]
    return found


def epoch_of(run) -> int:
    return max(checkpoints.epochs_of(run.uri), default=0)


def wait_until(condition, run, what, timeout_s=300.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert run.state in ("pending", "running", "interrupted"), run.why()
        assert time.monotonic() < end_s, f"{what}: {run.why()}"
        time.sleep(0.05)


def positions(run, name) -> dict:
    meta = checkpoints.newest(run.uri)
    return {} if meta is None else meta["positions"].get(name, {}).get("at", {})


def seconds(moment) -> int:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return int(moment.timestamp())


def assert_exact(rows) -> None:
    """Every window of every key once, with each event in it once."""
    found = Counter((seconds(row["window_start"]) // WINDOW_S, row["key"]) for row in rows)
    number = np.arange(EVENTS)
    place = number // (WINDOW_S * 1000) * KEYS + number % KEYS
    totals, events = np.bincount(place, weights=number), np.bincount(place)
    seen = np.zeros((2, len(totals)))
    for row in rows:
        at = seconds(row["window_start"]) // WINDOW_S * KEYS + row["key"]
        seen[:, at] += row["total"], row["events"]
    lost = np.maximum(events - seen[1], 0).sum()
    doubled = np.maximum(seen[1] - events, 0).sum()
    assert (lost, doubled) == (0, 0)
    assert (seen[0] == totals).all()
    assert max(found.values()) == 1


@pytest.mark.parametrize(("origin", "target"), PAIRS)
def test_each_event_has_its_effect_once_whatever_is_killed(cluster, tmp_path, origin, target):
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    began_s = time.monotonic()
    with SOURCES[origin].open(tmp_path) as source, SINKS[target].open(tmp_path) as sink:
        portion = -(-EVENTS // (KILLS + 1))
        graph = (
            source.stream()
            .with_time("at", delay=f"{2 * portion / 1000}s", idle="3s")
            .key_by("key")
            .window(
                streams.tumbling(f"{WINDOW_S}s"), {"total": ("number", "sum"), "events": "count"}
            )
            .to(sink.end())
        )
        run = stream(
            graph,
            storage=tmp_path,
            cluster=cluster,
            parallelism=2,
            checkpoint_every_s=0.5,
            max_failures=-1,
            wait=False,
        )
        for kind in kinds_of_kills(rng):
            before = epoch_of(run)
            source.feed(min(EVENTS, source.fed + portion))
            wait_until(lambda before=before: epoch_of(run) > before, run, "no checkpoint")
            time.sleep(rng.uniform(0, 0.7))
            wait_until(lambda kind=kind: kill(kind, run, cluster, rng), run, f"no {kind} to kill")
        source.feed(EVENTS)
        wait_until(lambda: source.has_given(positions(run, origin)), run, "events are left")
        streams.drain(run)
        assert_exact(sink.rows())
    took_s = time.monotonic() - began_s
    print(
        f"{origin} → {target}: {EVENTS} events, {KILLS} kills (seed {seed}), {took_s:.0f} s, "
        f"{run.receipt().attempts} drivers, {epoch_of(run)} checkpoints, 0 lost, 0 doubled"
    )
