"""Workers that are killed, stopped or stand still: each row is answered once all the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs_client import ended, jsonl, lines, request, submit

from eksml.serving.batch_jobs.lines import BLOCK_ROWS
from eksml.storage import URI

HERE = Path(__file__).parent
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(root: URI, tmp_path: Path) -> Iterator[Start]:
    """Starts a worker's process; none outlives the test."""
    with contextlib.ExitStack() as stack:

        def worker(pause_s: float) -> subprocess.Popen[bytes]:
            command = [sys.executable, str(HERE / "jobs_worker.py"), str(root), str(pause_s)]
            process = subprocess.Popen([*command, str(tmp_path / "journal")])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield worker


def computed(tmp_path: Path) -> Counter[str]:
    with contextlib.suppress(FileNotFoundError):
        return Counter((tmp_path / "journal").read_text().splitlines())
    return Counter()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_each_row_is_answered_once_although_workers_are_killed_at_random(
    connect: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    client = connect()("ann")
    asked = [request(f"id-{n}", f"{n}") for n in range(1200)]
    batch = submit(client, jsonl(asked))
    kills = 0
    while kills < 5:
        process, before = start(0.06), computed(tmp_path).total()
        wait_for(lambda: computed(tmp_path).total() >= before + 30)  # noqa: B023
        time.sleep(chance.random() * 0.6)
        process.kill()
        process.wait()
        kills += 1
    start(0.0)
    batch = ended(client, batch)
    assert batch.request_counts.to_dict() == {"total": 1200, "completed": 1200, "failed": 0}
    answers = lines(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in asked]
    texts = [answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [f"{n}" for n in range(1200)]
    again = computed(tmp_path).total() - 1200
    print(f"{kills} kills, {again} rows computed again")
    assert again <= kills * 3 * BLOCK_ROWS  # what was in flight, and their mates in open blocks


def test_a_worker_that_is_told_to_stop_hands_its_batch_on_and_is_not_missed(
    connect: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    client = connect()("ann")
    batch = submit(client, jsonl([request(f"id-{n}", f"{n}") for n in range(300)]))
    first = start(0.06)
    wait_for(lambda: computed(tmp_path).total() >= 100)
    first.send_signal(signal.SIGINT)
    first.wait(20)
    start(0.0)
    batch = ended(client, batch)
    assert len({answer["custom_id"] for answer in lines(client, batch.output_file_id)}) == 300


def test_a_worker_that_stood_still_and_comes_back_changes_nothing(
    connect: Callable[..., Any],
    start: Start,
    tmp_path: Path,
    root: URI,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = connect()("ann")
    batch = submit(client, jsonl([request(f"id-{n}", f"{n}") for n in range(1000)]))
    zombie = start(0.06)
    wait_for(lambda: computed(tmp_path).total() >= 100)
    os.kill(zombie.pid, signal.SIGSTOP)
    # As from another machine, on which nobody can see that the process exists
    folder = root / "tenants/ann/batches" / batch.id
    for uri in (folder / "lease.json", folder / "attempts/000001.json"):
        uri.write_json({**uri.read_json(), "host": "elsewhere"})
    monkeypatch.setenv("JOBS_STALE_S", "0.2")
    start(0.02)
    wait_for(lambda: (folder / "attempts/000002.json").exists())
    os.kill(zombie.pid, signal.SIGCONT)
    batch = ended(client, batch)
    answers = lines(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [f"id-{n}" for n in range(1000)]
    assert batch.request_counts.completed == 1000


def test_a_row_that_kills_the_engine_is_found_and_answered_with_an_error(
    connect: Callable[..., Any], start: Start, tmp_path: Path
) -> None:
    client = connect()("ann")
    asked = [request(f"id-{n}", "kill" if n == 100 else f"{n}") for n in range(300)]
    batch = submit(client, jsonl(asked))
    deaths = 0
    while client.batches.retrieve(batch.id).status != "completed":
        process = start(0.001)
        wait_for(
            lambda: (
                process.poll() is not None  # noqa: B023
                or client.batches.retrieve(batch.id).status == "completed"
            )
        )
        deaths += process.poll() is not None
    assert deaths == 4  # two over the blocks, two more over the row alone
    batch = client.batches.retrieve(batch.id)
    assert batch.request_counts.to_dict() == {"total": 300, "completed": 299, "failed": 1}
    (killer,) = lines(client, batch.error_file_id)
    assert (killer["custom_id"], killer["error"]["code"]) == ("id-100", "engine_died")
