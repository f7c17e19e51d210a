"""FAULTS cases 2, 4, 5 and 6 for sets of files: killed writers, sick and absent S3."""

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

from eksml.errors import StorageUnavailable
from eksml.storage import (
    URI,
    commit_files,
    committed,
    read_manifest,
    read_part,
    s3_client,
    sweep,
    verify,
)
from eksml.storage.s3_client import TRIES
from eksml.storage.s3_transfer import PART_BYTES
from eksml.testing import FaultProxy, S3Server

RANDOM_KILLS = 5
SETS_UNDER_FAULTS = 8
LARGE = PART_BYTES + 1

# One large part (a multipart upload of two parts), one small, then the manifest. It says what it
# has done, and waits for leave, where the test asks it to.
WRITER = """
import sys
from eksml.storage import URI, commit, write_part
folder = URI.parse(sys.argv[1])
def reach(stage):
    print(stage, flush=True)
    if stage == sys.argv[2]:
        sys.stdin.read()
reach("start")
parts = [write_part(folder, "large", bytes(int(sys.argv[3])))]
reach("between parts")
parts.append(write_part(folder, "small", b"small"))
reach("before manifest")
commit(folder, parts, {"step": 1})
reach("committed")
"""
STAGES = ["start", "between parts", "before manifest", "committed"]


class Writer:
    """A process that writes a set and can be killed on the way."""

    def __init__(self, folder: URI, wait_at: str = "", large: int = LARGE) -> None:
        command = [sys.executable, "-c", WRITER, str(folder), wait_at, str(large)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait_for(self, stage: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == stage:
                return
        raise AssertionError(f"the writer ended before {stage!r}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def wait_until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the writer did not come so far"
        time.sleep(0.001)


def assert_whole_or_nothing(folder: URI) -> bool:
    """Whether the set is committed; if so every byte of it is right."""
    if read_manifest(folder) is None:
        assert folder not in committed(folder.parent)
        return False
    verify(folder)
    assert read_part(folder, "small") == b"small"
    return True


def assert_next_writer_succeeds(folder: URI) -> None:
    commit_files(folder.parent / "step-2", {"small": b"small"})
    sweep(folder.parent, older_than_s=0)
    assert list(committed(folder.parent))[-1] == folder.parent / "step-2"
    leftovers = [stat.uri for stat in folder.list(recursive=True)]
    assert bool(leftovers) == (read_manifest(folder) is not None)


@pytest.fixture
def proxy(
    s3_server: S3Server, bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


@pytest.mark.parametrize("stage", STAGES)
def test_a_writer_killed_at_a_stage_leaves_a_whole_set_or_nothing(root: URI, stage: str) -> None:
    folder = root / "step-1"
    writer = Writer(folder, wait_at=stage)
    writer.wait_for(stage)
    writer.kill()
    assert assert_whole_or_nothing(folder) == (stage == "committed")
    assert_next_writer_succeeds(folder)


def test_a_writer_killed_inside_a_local_file_leaves_nothing_to_see(tmp_path: Path) -> None:
    folder = URI.parse(tmp_path / "sets" / "step-1")
    writer = Writer(folder, large=2**28)
    wait_until(lambda: any(file.stat().st_size for file in folder.path.glob(".eksml-*.tmp")))
    writer.kill()
    assert any(folder.path.iterdir())
    assert list(folder.list()) == []
    assert not assert_whole_or_nothing(folder)
    assert_next_writer_succeeds(folder)
    assert not folder.path.exists()


def test_a_writer_killed_at_each_call_to_s3_leaves_a_whole_set_or_nothing(
    proxy: FaultProxy, bucket: URI
) -> None:
    writer = Writer(bucket / "whole")
    writer.process.communicate()
    num_calls = proxy.num_requests
    assert num_calls == 6  # create, two parts, complete, the small part, the manifest
    for call in range(num_calls):
        folder = bucket / f"kill-{call}" / "step-1"
        proxy.once("hang", skip=call)
        writer = Writer(folder)
        wait_until(lambda call=call: proxy.faults["hang"] == call + 1)  # type: ignore[misc]
        writer.kill()
        assert not assert_whole_or_nothing(folder)
        assert_next_writer_succeeds(folder)


def test_a_writer_killed_before_it_hears_of_its_commit_has_committed(
    proxy: FaultProxy, bucket: URI
) -> None:
    folder = bucket / "step-1"
    proxy.once("lost", target="manifest.json")
    proxy.once("hang", target="manifest.json")  # the second try
    writer = Writer(folder)
    wait_until(lambda: proxy.faults["hang"] == 1)
    writer.kill()
    assert assert_whole_or_nothing(folder)


def test_writers_killed_at_random_leave_whole_sets_or_nothing(root: URI) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    choose = random.Random(seed)
    commit_files(root / "step-0", {"small": b"small"})
    ends = []
    for trial in range(RANDOM_KILLS):
        folder = root / f"step-1-{trial}"
        writer = Writer(folder)
        writer.wait_for("start")
        time.sleep(choose.uniform(0, 0.6))
        writer.kill()
        ends.append(assert_whole_or_nothing(folder))
    sweep(root, older_than_s=0)
    assert len(list(committed(root))) == 1 + sum(ends)
    assert_whole_or_nothing(root / "step-0")


def test_readers_beside_a_writer_see_whole_sets_only(root: URI) -> None:
    done = threading.Event()

    def read() -> int:
        num_seen = 0
        while not done.is_set():
            for folder in committed(root):
                verify(folder)
                num_seen += 1
        return num_seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for step in range(15):
            commit_files(
                root / f"step-{step:02}", {f"shard-{n}": os.urandom(999) for n in range(4)}
            )
        done.set()
        assert all(reader.result() for reader in readers)


def test_a_set_fails_only_if_one_of_its_calls_failed_five_times_in_a_row(
    s3_server: S3Server, bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_LONGEST_WAIT_S", 0.05)
    large = os.urandom(LARGE)
    with FaultProxy(s3_server.endpoint, fail_503=0.2, reset=0.1, cut=0.05) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        for fault in ("503", "reset", "lost", "cut"):
            proxy.once(fault, method="GET" if fault == "cut" else "PUT")

        def round_trip(step: int) -> bool:
            folder = bucket / f"step-{step}"
            try:
                commit_files(folder, {"large": large, "small": b"small"})
                assert read_part(folder, "large") == large
                assert read_part(folder, "small") == b"small"
            except StorageUnavailable:
                return False
            return True

        with ThreadPoolExecutor(SETS_UNDER_FAULTS) as pool:
            done = list(pool.map(round_trip, range(SETS_UNDER_FAULTS)))
        assert set(proxy.faults) == {"503", "reset", "lost", "cut"}
        faults = Counter((seen.method, seen.target) for seen in proxy.seen if seen.fault)
        assert done.count(False) <= sum(count >= TRIES for count in faults.values())
        writes = Counter(
            (seen.method, seen.target)
            for seen in proxy.seen
            if seen.method in ("PUT", "POST") and "manifest" not in seen.target
        )
        assert max(writes.values()) <= TRIES
        proxy.off()
        whole = [folder for folder in committed(bucket) if assert_whole_or_nothing(folder)]
        assert {bucket / f"step-{step}" for step, ok in enumerate(done) if ok} <= set(whole)


def test_a_short_outage_is_waited_out(proxy: FaultProxy, bucket: URI) -> None:
    proxy.down()
    threading.Timer(3, proxy.up).start()
    commit_files(bucket / "step-1", {"large": bytes(LARGE), "small": b"small"})
    assert assert_whole_or_nothing(bucket / "step-1")


@pytest.mark.long
def test_an_outage_that_lasts_is_told_and_leaves_the_older_set(
    proxy: FaultProxy, bucket: URI
) -> None:
    commit_files(bucket / "step-1", {"small": b"small"})
    proxy.down()
    began = time.monotonic()
    host = proxy.endpoint.removeprefix("http://")
    with pytest.raises(StorageUnavailable, match=f"S3 at {host} did not .* 5 tries"):
        commit_files(bucket / "step-2", {"small": b"small"})
    assert time.monotonic() - began < 60
    proxy.up()
    assert list(committed(bucket)) == [bucket / "step-1"]
    assert assert_whole_or_nothing(bucket / "step-1")
