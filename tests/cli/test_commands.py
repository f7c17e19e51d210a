"""A day at the shell on one real cluster: up, train, look, cancel, scale, down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commandline import EKSML, eksml, eksml_json, invoke_json

CLUSTER = """
name: shell
groups:
  - name: cpu
    nodes: [1, 2]
notice_s: 5
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster that is up, brought up and taken down by the command; the file that says how."""
    folder = tmp_path_factory.mktemp("shell")
    file = folder / "shell.yaml"
    file.write_text(CLUSTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKSML_HOME", str(folder / "home"))
        patch.setenv("EKSML_STORAGE", str(folder / "runs"))
        patch.delenv("EKSML_CLUSTER", raising=False)
        status = eksml_json("up", str(file))
        assert (status["name"], status["phase"], len(status["nodes"])) == ("shell", "running", 2)
        try:
            yield file
        finally:
            done = eksml("down", str(file))
            assert (done.returncode, done.stdout) == (0, "")
            assert eksml_json("status") == []


@pytest.fixture(scope="module")
def digits(shell: Path, project: Path) -> dict[str, object]:
    """What ``eksml train`` answered about a run that ended well."""
    answer: dict[str, object] = eksml_json(
        "train",
        str(project / "tiny.py"),
        "--name=digits",
        f"--cluster={shell}",
        "--config=lr=1e-3",
        "--checkpoint-every=10",
    )
    return answer


pytestmark = pytest.mark.long


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.3)


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on while the test looks at what it does."""
    process = subprocess.Popen(
        [EKSML, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def step_of(name: str) -> int:
    runs = {run["name"]: run for run in invoke_json("runs")}
    return int(runs[name]["step"] or 0) if name in runs else 0


def test_up_again_shows_the_cluster_and_what_to_do_next(shell: Path) -> None:
    done = eksml("up", str(shell))
    assert done.returncode == 0
    assert done.stdout.startswith("shell: running, http://")
    assert "It was up already" in done.stderr
    assert "eksml train FILE.py --cluster shell" in done.stderr


def test_status_lists_clusters_and_shows_one_with_its_nodes(shell: Path) -> None:
    assert [cluster["name"] for cluster in eksml_json("status")] == ["shell"]
    nodes = eksml_json("status", "shell")["nodes"]
    assert {node["group"]: node["phase"] for node in nodes} == {"head": "running", "cpu": "running"}
    table = eksml("status").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["name", "shell"]


def test_env_lets_rays_own_commands_find_the_cluster(shell: Path) -> None:
    command = f'eval "$({EKSML} env shell)" && {EKSML.with_name("ray")} job list'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert eksml_json("env")["RAY_AUTH_MODE"] == "token"


def test_a_file_is_trained_on_the_cluster_with_its_siblings(digits: dict[str, object]) -> None:
    assert digits["state"] == "succeeded"
    assert digits["result"] == {"half": 10, "lr": 0.001, "sum": 190.0}
    assert (digits["step"], digits["total"], digits["cluster"]) == (20, 20, "shell")


def test_runs_are_listed_for_people_and_machines(digits: dict[str, object]) -> None:
    listed = {run["name"]: run for run in eksml_json("runs")}
    assert listed["digits"] == {key: value for key, value in digits.items() if key != "result"}
    heading, *rows = eksml("runs").stdout.splitlines()
    assert heading.split() == ["name", "state", "step", "loss", "age", "cluster"]
    row = next(row.split() for row in rows if row.startswith("digits"))
    assert row[1:4] == ["succeeded", "20/20", "0.05"]


def test_a_run_shows_its_state_its_receipt_and_its_checkpoints(digits: dict[str, object]) -> None:
    shown = eksml_json("show", "digits")
    assert [checkpoint["step"] for checkpoint in shown["checkpoints"]] == [10, 20]
    assert shown["config"] == {"lr": 0.001}
    assert shown["receipt"]["attempts"] == 1
    assert "after step 20 of 20" in shown["why"]
    text = eksml("show", "digits").stdout
    assert "succeeded" in text
    assert "(10, 20)" in text


def test_logs_hold_what_the_workers_printed(digits: dict[str, object]) -> None:
    assert "half is 10" in eksml("logs", "digits").stdout.splitlines()
    assert "half is 10" in eksml("logs", "digits", "--follow").stdout.splitlines()


def test_metrics_are_rows_by_step(digits: dict[str, object]) -> None:
    rows = eksml_json("metrics", "digits")
    assert [row["step"] for row in rows] == list(range(20))
    assert rows[3]["loss"] == 0.25
    heading, *last = eksml("metrics", "digits", "--last", "2").stdout.splitlines()
    assert heading.split() == ["step", "loss"]
    assert [line.split() for line in last] == [["18", "0.05263"], ["19", "0.05"]]


def test_the_reader_of_a_pipe_may_leave(digits: dict[str, object]) -> None:
    command = f"{EKSML} metrics digits --json | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[\n", "")


def test_a_name_in_use_is_refused(digits: dict[str, object], project: Path) -> None:
    done = eksml("train", str(project / "tiny.py"), "--name=digits", "--cluster=shell")
    assert done.returncode == 1
    assert "has succeeded already" in done.stderr


def test_ctrl_c_leaves_the_run_going_until_it_is_cancelled(shell: Path, project: Path) -> None:
    file = str(project / "tiny.py")
    long = ["--config=total=100000", "--config=sleep_s=0.05", "--name=long", "--cluster=shell"]
    with started("train", file, *long) as follower:
        wait_until(lambda: step_of("long") > 0, "the first step")
        os.killpg(follower.pid, signal.SIGINT)
        _, said = follower.communicate(timeout=30)
    assert follower.returncode == 130
    assert "eksml logs long -f" in said
    assert "eksml cancel long" in said
    before = step_of("long")
    wait_until(lambda: step_of("long") > before, "a step after Ctrl-C")
    cancelled = eksml_json("cancel", "long")
    assert cancelled["state"] == "cancelled"
    assert cancelled["committed_step"] > 0


def test_a_run_without_waiting_is_pending_or_running(shell: Path, project: Path) -> None:
    long = ["--config=total=100000", "--config=sleep_s=0.05", "--name=later", "--cluster=shell"]
    answer = eksml_json("train", str(project / "tiny.py"), *long, "--no-wait")
    assert answer["state"] in ("pending", "running")
    assert answer["result"] is None
    assert eksml("cancel", "later").returncode == 0
    assert eksml_json("show", "later")["state"] == "cancelled"


def test_a_function_that_fails_shows_its_traceback_and_code_1(shell: Path, tmp_path: Path) -> None:
    file = tmp_path / "fails.py"
    file.write_text("def fit(ctx):\n    raise KeyError('pixels')\n")
    done = eksml("train", str(file), "--name=fails", "--cluster=shell", "--max-failures=0")
    assert done.returncode == 1
    assert done.stderr.count("KeyError: 'pixels'") == 1
    assert "KeyError: 'pixels'" in eksml("show", "fails").stdout


def test_a_group_is_scaled_and_a_node_interrupted(shell: Path) -> None:
    def phases() -> dict[str, str]:
        nodes = invoke_json("status", "shell")["nodes"]
        return {node["id"]: node["phase"] for node in nodes if node["group"] == "cpu"}

    before = phases()
    assert eksml("scale", "cpu", "2").returncode == 0
    wait_until(lambda: list(phases().values()) == ["running"] * 2, "two nodes")
    new = (phases().keys() - before.keys()).pop()
    assert eksml("interrupt", new, "--notice", "2").returncode == 0
    wait_until(lambda: phases().get(new) != "running", "the node has its notice")
    refused = eksml("scale", "cpu", "9")
    assert refused.returncode == 1
    assert "1 to 2" in refused.stderr


def test_ctrl_c_stops_a_run_of_this_process_at_a_checkpoint(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKSML_STORAGE", str(tmp_path))
    file = str(project / "tiny.py")
    long = ["--config=total=100000", "--config=sleep_s=0.05", "--name=here"]
    with started("train", file, *long) as process:
        wait_until(lambda: step_of("here") > 0, "the first step", timeout_s=150)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "the same command with --name here" in said
    run = json.loads(eksml("show", "here", "--json").stdout)
    assert run["state"] == "cancelled"
    assert run["checkpoints"], "it goes on from there"
