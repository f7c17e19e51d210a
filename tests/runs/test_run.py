"""The handle: follow a run from anywhere, read what it left, stop it."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eksml.errors import RunCancelled, RunError, RunFailed, RunInterrupted, RunNotFound
from eksml.runs import Run, get_run, list_runs
from eksml.runs import run as run_module
from eksml.runs.display import Bar, View, clock
from eksml.runs.driver import Attempt, create
from eksml.runs.journal import Journal, source_name
from eksml.runs.progress import Progress, write_progress
from eksml.runs.record import read_record
from eksml.storage import URI, commit_files

STEPS = 20


def work(attempt: Attempt, pause_s: float = 0.01) -> None:
    """A tiny verb: logs, reports progress, stops when it is asked to."""
    run = attempt.run
    attempt.event("incarnation_started", restored_step=0, nodes=1, workers=1)
    attempt.event("loop_started")
    source = source_name(attempt.number, 0, "rank0")
    with Journal(run / "metrics", source) as metrics, Journal(run / "logs", source) as logs:
        for step in range(1, STEPS + 1):
            metrics.append({"step": step, "loss": 1 / step})
            logs.append(f"step {step}")
            write_progress(run, Progress(step=step, total=STEPS, metrics={"loss": 1 / step}))
            time.sleep(pause_s)
            if attempt.stop_requested():
                raise RunCancelled(f"stopped at step {step}")
    commit_files(run / "checkpoints" / "step-00000020", {"weights": b"w"})
    attempt.event("committed", step=STEPS)
    attempt.event("ended", step=STEPS)
    attempt.write_result({"steps": STEPS})


def drive(run: URI, job: Callable[[Attempt], None] = work) -> threading.Thread:
    """Run the driver beside the test, as a job on a cluster would."""

    def body() -> None:
        try:
            with Attempt(run) as attempt:
                job(attempt)
        except (RunCancelled, ValueError):
            return

    thread = threading.Thread(target=body)
    thread.start()
    return thread


@pytest.fixture
def run(root: URI, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setitem(run_module.POLL_S, "s3", run_module.POLL_S["file"])
    return Run(create(root, "digits", verb="train", entry="jobs.fit"))


def test_a_run_is_followed_to_its_end_and_read(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    thread = drive(run.uri)
    assert run.wait() is run
    thread.join()
    metrics = run.metrics()
    assert metrics.index.name == "step"
    assert list(metrics["loss"]) == [1 / step for step in range(1, STEPS + 1)]
    assert list(run.logs()) == [f"step {step}" for step in range(1, STEPS + 1)]
    assert run.result() == {"steps": STEPS}
    assert [step for step, _ in run.checkpoints()] == [STEPS]
    assert run.receipt().kept_share > 0
    assert run.why() == "It succeeded after step 20 of 20."
    assert "digits: succeeded  step 20/20  loss 0.05" in capsys.readouterr().err


def test_another_process_reattaches_by_name(run: Run, root: URI) -> None:
    drive(run.uri).join()
    script = f"import eksml; print(eksml.get_run('digits', {str(root)!r}).wait().result())"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "{'steps': 20}\n"


def test_a_handle_can_be_pickled(run: Run) -> None:
    assert pickle.loads(pickle.dumps(run)) == run


def test_a_failed_run_raises_with_the_users_own_traceback_first(run: Run) -> None:
    def fail(attempt: Attempt) -> None:
        raise ValueError("the learning rate is negative")

    drive(run.uri, fail).join()
    with pytest.raises(RunFailed) as failure:
        run.wait(progress=False)
    lines = str(failure.value).splitlines()
    assert lines[0].startswith("Traceback")
    assert "test_run.py" in lines[1]
    assert "ValueError: the learning rate is negative" in lines
    with pytest.raises(RunFailed):
        run.result()


def test_cancelling_stops_a_run_at_its_next_checkpoint_from_anywhere(run: Run) -> None:
    thread = drive(run.uri, lambda attempt: work(attempt, pause_s=0.2))
    while run.state != "running":
        time.sleep(0.05)
    run.cancel()
    thread.join()
    assert run.state == "cancelled"
    with pytest.raises(RunCancelled, match="was cancelled after step"):
        run.wait(progress=False)
    assert run.cancel() is run


def test_a_pending_run_can_be_cancelled_and_does_not_start_afterwards(run: Run) -> None:
    run.cancel()
    assert run.state == "cancelled"
    with pytest.raises(RunCancelled), Attempt(run.uri):
        pass


def test_a_run_that_does_not_listen_is_not_called_cancelled(run: Run) -> None:
    done = threading.Event()
    thread = drive(run.uri, lambda attempt: bool(done.wait(30)) and None)
    while run.state != "running":
        time.sleep(0.05)
    with pytest.raises(RunError, match="has not reached a checkpoint"):
        run.cancel(grace_s=0.5)
    assert run.state == "running"
    done.set()
    thread.join()


def test_a_run_whose_driver_was_killed_is_interrupted(run: Run) -> None:
    script = (
        "import os, sys; from eksml.runs.driver import Attempt; from eksml.storage import URI\n"
        "with Attempt(URI.parse(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, str(run.uri)], check=False)
    with pytest.raises(RunInterrupted, match="The same call with the same name"):
        run.wait(progress=False)
    run.cancel()
    assert run.state == "cancelled"


def test_waiting_can_be_limited_and_leaves_the_run_alone(run: Run) -> None:
    with pytest.raises(TimeoutError, match=r"0\.2 s"):
        run.wait(timeout_s=0.2, progress=False)
    assert run.state == "pending"
    with pytest.raises(RunError, match="no result yet"):
        run.result()


def test_logs_can_be_followed_until_the_end(run: Run) -> None:
    thread = drive(run.uri, lambda attempt: work(attempt, pause_s=0.05))
    lines = list(run.logs(follow=True))
    thread.join()
    assert lines == [f"step {step}" for step in range(1, STEPS + 1)]


def test_runs_are_listed_newest_first(root: URI) -> None:
    for name in ("old", "new"):
        create(root, name, verb="train", entry="jobs.fit")
        time.sleep(0.01)
    (root / "no-run" / "notes.txt").write_bytes(b"x")
    assert [run.name for run in list_runs(root)] == ["new", "old"]
    with pytest.raises(RunNotFound, match="Did you mean 'new'"):
        get_run("nwe", root)


def test_an_empty_storage_holds_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path) == []
    with pytest.raises(RunNotFound, match="It holds no runs"):
        get_run("digits", tmp_path)


def test_a_notebook_shows_the_run_itself(run: Run) -> None:
    drive(run.uri).join()
    html = run._repr_html_()
    assert "succeeded" in html
    assert "<polyline" in html
    assert "step 20 of 20" in html


def test_what_a_user_wrote_is_escaped_in_html(run: Run) -> None:
    def fail(attempt: Attempt) -> None:
        raise ValueError("<script>alert(1)</script>")

    drive(run.uri, fail).join()
    assert "<script>" not in run._repr_html_()


def test_the_losses_are_plotted_to_a_file(run: Run, tmp_path: Path) -> None:
    drive(run.uri).join()
    run.plot(tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_the_line_shows_the_time_left_while_it_runs(run: Run) -> None:
    progress = Progress(step=10, total=40, samples_per_s=50.0, seconds_left=60.0)
    assert "1:00 left" in View(read_record(run.uri), "running", progress).line()
    assert "left" not in View(read_record(run.uri), "succeeded", progress).line()
    assert clock(3723) == "1:02:03"


def test_the_terminal_bar_shows_step_loss_and_speed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    progress = Progress(step=10, total=40, samples_per_s=50.0, metrics={"loss": 0.25})
    with Bar("digits") as bar:
        bar.show(View(read_record(run.uri), "running", progress))
    shown = screen.getvalue()
    assert "10/40" in shown
    assert "loss 0.25" in shown
    assert "50 samples/s" in shown
