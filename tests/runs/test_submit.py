"""A run whose driver is a job on a real cluster: followed, cancelled, killed, refused."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eksml import Cluster, backends
from eksml.backends import Running
from eksml.errors import ClusterError, ClusterNotUp, RunFailed, RunNameInUse
from eksml.runs import Run
from eksml.runs.driver import create
from eksml.runs.jobs import Jobs
from eksml.runs.record import read_record
from eksml.runs.submit import submit
from eksml.storage import URI

pytestmark = pytest.mark.long

VERB = """
import sys, time
from eksml.errors import RunCancelled
from eksml.runs.driver import Attempt
from eksml.storage import URI
with Attempt(URI.parse(sys.argv[1])) as attempt:
    print("the driver begins", flush=True)
    for _ in range(int(attempt.record.spec["rounds"])):
        time.sleep(0.1)
        if attempt.record.spec.get("listens", True) and attempt.stop_requested():
            raise RunCancelled("at a checkpoint")
    attempt.write_result({"node": "a real one"})
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One small cluster on which the modules ``verb`` and ``broken`` can be imported."""
    modules = tmp_path_factory.mktemp("modules")
    (modules / "verb.py").write_text(VERB)
    (modules / "broken.py").write_text("import a_package_that_nobody_has\n")
    image = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(modules), str(Path(__file__).parents[2])]),
    }
    with backends.up(Cluster(name="runs-test", env=image)) as cluster:
        yield cluster


@pytest.fixture
def storage(tmp_path: Path) -> URI:
    return URI.parse(tmp_path / "runs")


def begin(storage: URI, name: str, **spec: object) -> URI:
    return create(storage, name, verb="train", entry="verb.main", cluster="runs-test", spec=spec)


def until_running(run: URI) -> None:
    while Run(run).state == "pending":
        time.sleep(0.2)


def test_a_job_drives_the_run_and_any_process_follows_it(running: Running, storage: URI) -> None:
    run = begin(storage, "digits", rounds=1)
    job_id = submit(run, running, module="verb")
    assert Run(run).state in ("pending", "running")
    assert Run(run).wait(timeout_s=60).result() == {"node": "a real one"}
    assert read_record(run).job_id == job_id
    assert "the driver begins" in list(Run(run).logs())


def test_a_run_in_use_is_refused_while_its_job_waits_or_works(
    running: Running, storage: URI
) -> None:
    run = begin(storage, "busy", rounds=600)
    submit(run, running, module="verb")
    with pytest.raises(RunNameInUse):
        begin(storage, "busy")
    until_running(run)
    with pytest.raises(RunNameInUse):
        begin(storage, "busy")
    Run(run).cancel()
    assert Run(run).state == "cancelled"


def test_a_job_that_does_not_listen_is_terminated_after_the_grace(
    running: Running, storage: URI
) -> None:
    run = begin(storage, "deaf", rounds=600, listens=False)
    submit(run, running, module="verb")
    until_running(run)
    Run(run).cancel(grace_s=1.0)
    assert Run(run).state == "cancelled"


def test_a_job_that_cannot_begin_fails_the_run_and_shows_its_log(
    running: Running, storage: URI
) -> None:
    run = begin(storage, "broken", rounds=1)
    submit(run, running, module="broken")
    with pytest.raises(RunFailed, match="a_package_that_nobody_has"):
        Run(run).wait(timeout_s=60)
    assert "ended before it could begin" in Run(run).why()
    begin(storage, "broken", rounds=1)
    submit(run, running, module="verb")
    assert Run(run).wait(timeout_s=60).state == "succeeded"


def test_a_job_sent_twice_runs_once(running: Running) -> None:
    jobs = Jobs(running.jobs_address, running.token)
    jobs.submit("only-once", "true")
    again = jobs.submit("only-once", "false")
    while not jobs.status("only-once").ended:
        time.sleep(0.2)
    assert again.submission_id == "only-once"
    assert jobs.status("only-once").status == "SUCCEEDED"


def test_an_unknown_job_is_gone_rather_than_an_error(running: Running) -> None:
    jobs = Jobs(running.jobs_address, running.token)
    assert jobs.status("never-sent").status == "GONE"
    assert jobs.log("never-sent") == ""
    jobs.stop("never-sent")


def test_a_wrong_token_is_told_without_the_token(running: Running) -> None:
    with pytest.raises(ClusterError, match="refused the token") as refusal:
        Jobs(running.jobs_address, "wrong-token").status("any")
    assert "wrong-token" not in str(refusal.value)


def test_nobody_at_the_address_is_told_with_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eksml.runs.jobs.FIRST_PAUSE_S", 0.01)
    with pytest.raises(ClusterNotUp, match=r"127\.0\.0\.1:9"):
        Jobs("http://127.0.0.1:9").status("any")


def test_no_token_is_in_the_record_or_the_job(running: Running, storage: URI) -> None:
    run = begin(storage, "secretive", rounds=1)
    submit(run, running, module="verb")
    Run(run).wait(timeout_s=60)
    stored = b"".join(stat.uri.read_bytes() for stat in run.list(recursive=True))
    assert running.token.encode() not in stored
