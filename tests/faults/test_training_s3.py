"""FAULTS cases 2 and 5 for a whole run: training on S3 whose writer is killed, or whose script is
killed while S3 is sick.

The runs are scripts, so that the credentials of the test's S3 reach the workers by the environment,
as they do on a laptop.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loops import fit, outcome

from eksml.runs import Run
from eksml.storage import URI
from eksml.storage.s3_client import TRIES
from eksml.testing import FaultProxy
from eksml.training.checkpoints import load

KILLS = int(os.environ.get("EKSML_KILLS", "1"))
"""Writers that are killed in one run."""
TOTAL, EVERY = 40 * (KILLS + 1), 5
CALL = {
    "workers": 2,
    "checkpoint": {"every_steps": EVERY, "keep": 10_000},  # so that readers meet no retention
    "max_failures": -1,
}
SCRIPT = """
import sys
sys.path.insert(0, {loops!r})
import eksml
from loops import fit
eksml.train(fit, config={config!r}, storage={storage!r}, name="s3", **{call!r})
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


@pytest.fixture
def proxy(s3_server, bucket, monkeypatch) -> Iterator[FaultProxy]:
    """Between the run and S3; the test itself speaks to S3 directly."""
    with FaultProxy(s3_server.endpoint, fail_503=0.2, reset=0.1) as proxy:
        proxy.off()
        yield proxy


def start(bucket: URI, proxy: FaultProxy, **config) -> subprocess.Popen[str]:
    script = SCRIPT.format(
        loops=str(Path(fit.__code__.co_filename).parent),
        config={"total": TOTAL, **config},
        storage=str(bucket),
        call=CALL,
    )
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "AWS_ENDPOINT_URL": proxy.endpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def read_all(run: Run, done: threading.Event) -> set[int]:
    """Load each checkpoint as soon as it is listed, and again; ``load`` verifies every byte."""
    seen = set()
    while not done.wait(0.1):
        for step, folder in run.checkpoints():
            assert load(folder).step == step
            seen.add(step)
    return seen


def kill_in_a_write(
    rng: random.Random, proxy: FaultProxy, pids: Path, process: subprocess.Popen[str]
) -> str:
    """Kill the rank that commits, at one of its calls to S3 for a checkpoint or a bit later."""
    before = proxy.num_requests
    pid = int((pids / "rank0").read_text())
    if rng.random() < 0.5:
        target = rng.choice(["rank-00000", "rank-00001", "outline", "manifest"])
        fault = rng.choice(["hang", "lost"])
        proxy.once(fault, method="PUT", target=f"/{target}")
        wait_until(lambda: any(seen.fault for seen in proxy.seen[before:]), process)
        moment = f"{fault} {target}"
    else:
        calls, pause_s = rng.randrange(1, 5), rng.uniform(0, 0.02)
        wait_until(lambda: len(writes(proxy, before)) >= calls, process)
        time.sleep(pause_s)
        moment = f"{pause_s * 1000:.0f} ms after write {calls}"
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: int((pids / "rank0").read_text()) != pid, process)
    return moment


def writes(proxy: FaultProxy, since: int = 0) -> list[str]:
    """What was written of checkpoints, one entry a try."""
    return [
        seen.target
        for seen in proxy.seen[since:]
        if seen.method == "PUT" and "/checkpoints/" in seen.target
    ]


def test_a_writer_killed_on_s3_leaves_no_half_checkpoint_and_changes_nothing(
    undisturbed, bucket, proxy, tmp_path
):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    run, done = Run(bucket / "s3"), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        process = start(bucket, proxy, sleep_s=0.1, pids=str(tmp_path))
        reader = pool.submit(read_all, run, done)
        try:
            wait_until((tmp_path / "rank0").exists, process)
            for _ in range(KILLS):
                print(kill_in_a_write(rng, proxy, tmp_path, process))
            output, _ = process.communicate(timeout=900)
        finally:
            process.kill()
            done.set()
    assert process.returncode == 0, output
    assert len(reader.result()) > KILLS
    assert outcome(run) == undisturbed(TOTAL)
    assert run.receipt().restarts == KILLS


def assert_s3_was_to_blame(output: str) -> None:
    """Of one call in 400 all five tries fail. A script that has no run yet then ends, as it says,
    and is started again by whoever reads that."""
    assert "StorageUnavailable" in output, output


def test_a_killed_script_that_is_started_again_loses_nothing_while_s3_fails_a_third_of_all_requests(
    undisturbed, bucket, proxy
):
    run = Run(bucket / "s3")
    proxy.on()
    first = start(bucket, proxy, sleep_s=0.1)
    while not run.checkpoints():
        if first.poll() is not None:
            assert_s3_was_to_blame(first.communicate()[0])
            first = start(bucket, proxy, sleep_s=0.1)
        time.sleep(0.02)
    first.kill()
    first.communicate()
    assert run.state == "interrupted"
    while True:
        again = start(bucket, proxy, sleep_s=0.1)
        output, _ = again.communicate(timeout=900)
        if again.returncode == 0:
            break
        assert_s3_was_to_blame(output)
    print(f"{proxy.num_requests} requests, {dict(proxy.faults)}")
    assert set(proxy.faults) == {"503", "reset", "lost"}
    assert outcome(run) == undisturbed(TOTAL)
    assert run.receipt().attempts == 2
    assert run.receipt().restarts == 1  # by the kill; a checkpoint that fails would end its workers
    found = [load(folder).step for _, folder in run.checkpoints()]
    assert len(found) > 2
    tries = Counter(target for target in writes(proxy) if "/manifest" not in target)
    assert max(tries.values()) <= 2 * TRIES  # in two attempts
