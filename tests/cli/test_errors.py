"""What goes wrong is said once, on stderr, with an exit code that scripts can read."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import eksml, invoke

from eksml.errors import ClusterNotUp

pytestmark = pytest.mark.usefixtures("no_clusters")


def test_an_error_of_eksml_is_one_message_on_stderr_and_code_1() -> None:
    done = eksml("down", "nowhere")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("nowhere") == 1
    assert "eksml up" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_traceback_is_there_for_whoever_asks_wherever_it_is_asked() -> None:
    done = eksml("status", "nowhere", "--traceback")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert isinstance(invoke("--traceback", "status", "nowhere").exception, ClusterNotUp)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "nonsense"),
        (["scale", "cpu", "many"], "NODES"),
        (["train", "nowhere.py"], "nowhere.py"),
        (["train", "nowhere"], "no module 'nowhere'"),
        (["train", "x.py", "--checkpoint-every", "often"], "100, 30s or 5m"),
        (["train", "x.py", "--deadline", "120"], "2h"),
        (["train", "x.py", "--resources", "CPU"], "CPU=2,GPU=1"),
        (["train", "x.py", "--no-wait"], "--cluster"),
        (["train", "x.py", "--config-file", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_wrong_usage_is_code_2(arguments: list[str], said: str) -> None:
    done = invoke(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_a_specification_that_is_wrong_tells_every_problem(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text("name: Wrong\nheads: {}\nnotice_s: soon\n")
    done = invoke("up", str(file))
    assert done.exit_code == 1
    assert all(path in done.stderr for path in ("name", "heads", "notice_s"))


def test_a_training_call_that_is_wrong_tells_every_problem(project: Path) -> None:
    done = invoke("train", str(project / "tiny.py"), "--workers", "-1", "--keep", "0", "--seed=-2")
    assert done.exit_code == 1
    assert all(path in done.stderr for path in ("workers", "checkpoint.keep", "seed"))


def test_with_no_cluster_up_the_commands_say_how_to_start_one() -> None:
    assert "eksml up clusters/laptop.yaml" in invoke("status").stderr
    for arguments in (["env"], ["scale", "cpu", "1"], ["interrupt", "cpu-1"]):
        done = invoke(*arguments)
        assert done.exit_code == 1
        assert "eksml up clusters/laptop.yaml" in done.stderr


def test_a_run_that_does_not_exist_is_code_1() -> None:
    for name in ("show", "logs", "metrics", "cancel"):
        done = invoke(name, "nothing")
        assert done.exit_code == 1
        assert "There is no run 'nothing'" in done.stderr
