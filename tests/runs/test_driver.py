"""The driver's side: who owns a run, what is left when it is killed, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eksml.errors import (
    CallError,
    Damaged,
    InvalidSpec,
    RunCancelled,
    RunError,
    RunNameInUse,
)
from eksml.runs import Run, get_run, journal, lease, list_runs
from eksml.runs.control import read_stop
from eksml.runs.driver import Attempt, abandon, create
from eksml.runs.record import ErrorRecord, read_record
from eksml.storage import URI, read_manifest

RACERS = 4

DRIVER = """
import sys
from eksml.runs.driver import Attempt
from eksml.storage import URI
with Attempt(URI.parse(sys.argv[1])) as attempt:
    print(attempt.number, flush=True)
    sys.stdin.read()
    attempt.write_result("done")
"""


def begin(root: URI, name: str = "digits", **job: object) -> URI:
    return create(root, name, verb="train", entry="jobs.fit", **job)  # type: ignore[arg-type]


def start_driver(run: URI) -> subprocess.Popen[str]:
    """A driver that works until its input is closed, as ``communicate`` does."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def work_until_asked_to_stop(attempt: Attempt) -> None:
    attempt.event("incarnation_started", restored_step=0, nodes=4, workers=4)
    while attempt.stop_requested() is None:
        time.sleep(0.05)
    raise RunCancelled("at a checkpoint")


@pytest.fixture
def driver(root: URI) -> Iterator[tuple[URI, subprocess.Popen[str]]]:
    """A run that a process of its own works on."""
    run = begin(root)
    process = start_driver(run)
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    yield run, process
    process.kill()
    process.wait()


def test_a_run_goes_from_pending_over_running_to_succeeded(root: URI) -> None:
    run = begin(root, config={"lr": 0.1, "path": Path("x")}, spec={"workers": 2})
    assert Run(run).state == "pending"
    with Attempt(run) as attempt:
        assert Run(run).state == "running"
        attempt.write_result({"accuracy": 0.97})
    record = read_record(run)
    assert (record.state, record.attempt, record.error) == ("succeeded", 1, None)
    assert record.config == {"lr": 0.1, "path": repr(Path("x"))}
    assert record.created_s <= (record.started_s or 0) <= (record.ended_s or 0)
    assert record.versions.torch is not None
    assert Run(run).result() == {"accuracy": 0.97}
    assert read_manifest(run / "result") is not None


def test_an_exception_ends_the_run_as_failed_with_the_users_traceback_first(root: URI) -> None:
    run = begin(root)
    with pytest.raises(ZeroDivisionError), Attempt(run):
        _ = 1 / 0
    error = read_record(run).error
    assert error is not None
    assert error.type == "ZeroDivisionError"
    assert error.traceback.startswith("Traceback")
    assert "eksml/runs" not in error.traceback.splitlines()[1]


def test_the_verb_may_say_whose_error_it_was(root: URI) -> None:
    run = begin(root)
    theirs = ErrorRecord(type="ValueError", message="bad", traceback="theirs", rank=3, step=57)

    def carry(attempt: Attempt) -> None:
        attempt.fail(theirs)
        raise RuntimeError("a worker failed")

    with pytest.raises(RuntimeError), Attempt(run) as attempt:
        carry(attempt)
    assert read_record(run).error == theirs
    assert Run(run).why() == "It failed on rank 3 at step 57: ValueError: bad"


def test_ctrl_c_leaves_a_run_that_can_be_taken_up(root: URI) -> None:
    run = begin(root)
    with pytest.raises(KeyboardInterrupt), Attempt(run):
        raise KeyboardInterrupt
    assert Run(run).state == "interrupted"
    begin(root)
    with Attempt(run) as attempt:
        assert attempt.number == 2


def test_a_live_run_refuses_a_second_driver_and_a_second_call(
    driver: tuple[URI, subprocess.Popen[str]], root: URI
) -> None:
    run, process = driver
    with pytest.raises(RunNameInUse, match=str(process.pid)), Attempt(run):
        pass
    with pytest.raises(RunNameInUse, match="is running"):
        begin(root)


def test_a_killed_driver_is_seen_at_once_and_the_same_call_takes_the_run_up(
    driver: tuple[URI, subprocess.Popen[str]], root: URI
) -> None:
    run, process = driver
    process.kill()
    process.wait()
    assert read_record(run).state == "running"
    assert Run(run).state == "interrupted"
    assert str(process.pid) in Run(run).why()
    begin(root)
    with Attempt(run) as attempt:
        assert attempt.number == 2
        attempt.write_result(1)
    assert Run(run).state == "succeeded"


def test_a_stopped_driver_is_fenced_once_a_newer_attempt_exists(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(root)
    zombie = start_driver(run)
    assert zombie.stdout is not None
    assert zombie.stdout.readline() == "1\n"
    zombie.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(lease.Owner, "process_lives", lambda self: False)  # as another host sees it
    begin(root)
    with Attempt(run) as attempt:
        zombie.send_signal(signal.SIGCONT)  # it wakes, and wants to write its result
        _, complaint = zombie.communicate(timeout=30)
        assert (read_record(run).state, read_record(run).attempt) == ("running", 2)
        attempt.write_result("of the second")
    assert "Fenced" in complaint
    assert "attempt 2 took over from attempt 1" in complaint
    assert Run(run).result() == "of the second"


def test_of_racing_drivers_one_gets_the_run_and_the_others_are_told(root: URI) -> None:
    run = begin(root)
    racers = [start_driver(run) for _ in range(RACERS)]
    while sum(racer.poll() is None for racer in racers) > 1:
        time.sleep(0.05)
    ends = [racer.communicate(timeout=60) for racer in racers]
    winners = [end for racer, end in zip(racers, ends, strict=True) if racer.returncode == 0]
    assert len(winners) == 1
    assert sum("RunNameInUse" in complaint for _, complaint in ends) == RACERS - 1
    assert read_record(run).attempt == 1


def test_a_rival_that_claims_between_two_looks_wins(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(root)
    rival: list[lease.Owner] = []
    read_lease = lease.read_lease

    def look(run: URI) -> lease.Owner | None:
        monkeypatch.setattr(lease, "read_lease", read_lease)
        rival.append(lease.claim(run))
        return None  # as seen before the rival

    monkeypatch.setattr(lease, "read_lease", look)
    with pytest.raises(RunNameInUse, match="claimed attempt 1 at the same time"):
        lease.claim(run)
    assert lease.last_attempt(run) == rival[0].attempt == 1


def test_a_finished_name_is_not_used_twice(root: URI) -> None:
    run = begin(root)
    with Attempt(run):
        pass
    with pytest.raises(RunNameInUse, match="Choose another name"):
        begin(root)
    with pytest.raises(RunError, match="has succeeded"), Attempt(run):
        pass


def test_a_deadline_asks_for_a_stop_and_the_run_ends_cancelled(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    run = begin(root, deadline_s=0.5)
    with pytest.raises(RunCancelled), Attempt(run) as attempt:
        work_until_asked_to_stop(attempt)
    assert read_record(run).stop == "deadline"
    assert "deadline of 0.5 s" in Run(run).why()
    begin(root)
    assert read_stop(run) is None


def test_a_budget_counts_nodes_over_all_attempts(
    root: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.2)
    monkeypatch.setitem(journal.FLUSH_S, "s3", journal.FLUSH_S["file"])
    run = begin(root, budget_node_hours=2 / 3600)
    began = time.monotonic()
    with pytest.raises(RunCancelled), Attempt(run) as attempt:
        work_until_asked_to_stop(attempt)
    assert time.monotonic() - began >= 0.5  # 4 nodes spend 2 node-seconds in half a second
    assert "node-hours" in Run(run).why()


def test_what_fails_before_the_driver_starts_is_recorded(root: URI) -> None:
    run = begin(root)
    abandon(run, ConnectionError("the cluster went away"))
    assert Run(run).why() == "It failed: ConnectionError: the cluster went away"


def test_a_result_that_is_not_json_is_refused(root: URI) -> None:
    run = begin(root)
    with pytest.raises(CallError, match="not JSON"), Attempt(run) as attempt:
        attempt.write_result(object())


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "x" * 64, "a b", "-a"])
def test_a_name_that_cannot_be_a_folder_or_job_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="name"):
        begin(URI.parse(tmp_path), name or "-")


def test_aws_keys_in_the_configuration_are_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    key = "AKIA" + "Q" * 16
    with pytest.raises(CallError) as refusal:
        begin(URI.parse(tmp_path), config={"s3": [{"Secret-Access-Key": "abc"}, key]})
    assert "config['s3'][0]['Secret-Access-Key']" in str(refusal.value)
    assert "config['s3'][1]" in str(refusal.value)
    assert key not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"name": 1}', json.dumps({"schema_version": 99}), "{"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    run = begin(URI.parse(tmp_path))
    (run.path / "run.json").write_text(text)
    with pytest.raises(Damaged, match=r"run\.json"):
        get_run("digits", tmp_path).wait()
    with pytest.raises(Damaged, match=r"run\.json"):
        list_runs(tmp_path)
