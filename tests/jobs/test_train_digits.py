"""One script, unchanged, in every place where it may run: the same numbers everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import eksml
from eksml.backends import Running
from eksml.cluster import Head

ROOT = Path(__file__).parents[2]
JOB = ROOT / "jobs" / "train_digits.py"
BIN = Path(sys.executable).parent

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def command(*words: object, **env: str) -> str:
    """Run a command from outside the checkout; gives what it printed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd="/",
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EKSML_HOME", str(folder / "home"))
        patch.setenv("EKSML_STORAGE", str(folder / "runs"))
        yield folder / "runs"


@pytest.fixture(scope="module")
def trio(storage: Path) -> Iterator[Running]:
    """Three nodes: a head without room for training, and two that train."""
    workers = eksml.cpu(name="workers", nodes=2, cpus=1)
    with eksml.Cluster(name="trio", head=Head(cpus=0), groups=(workers,)).up() as running:
        yield running


@pytest.fixture(scope="module")
def here(storage: Path) -> eksml.Run:
    """The script in its own process, with two workers."""
    printed = command(BIN / "python", JOB, "--name", "here")
    assert "held-out digits right" in printed
    return eksml.get_run("here")


def assert_equal_to_the_last_bit(run: eksml.Run, other: eksml.Run) -> None:
    assert run.result() == other.result()
    assert run.metrics().loss.tolist() == other.metrics().loss.tolist()


def test_it_reads_97_percent_of_the_digits_that_it_never_saw(here: eksml.Run) -> None:
    assert here.result()["accuracy"] >= 0.97
    assert len(here.metrics()) == 600


def test_it_gives_the_same_on_a_cluster_of_three_nodes(here: eksml.Run, trio: Running) -> None:
    command(BIN / "python", JOB, "--name", "there", "--cluster", trio.name)

    there = eksml.get_run("there")
    assert there.record.cluster == "trio"
    assert_equal_to_the_last_bit(here, there)


def test_it_gives_the_same_by_ray_job_submit(here: eksml.Run, trio: Running) -> None:
    submit = [BIN / "ray", "job", "submit", "--working-dir", JOB.parent]
    script = ["python", JOB.name, "--name", "submitted", "--storage", here.uri.parent]

    printed = command(*submit, "--", *script, **trio.env())

    assert "succeeded" in printed
    assert_equal_to_the_last_bit(here, eksml.get_run("submitted"))


def test_it_gives_the_same_by_eksml_train(here: eksml.Run, trio: Running) -> None:
    command(BIN / "eksml", "train", JOB, "--workers", 2, "--name", "trained", "--cluster", "trio")

    assert_equal_to_the_last_bit(here, eksml.get_run("trained"))


def test_its_help_has_examples() -> None:
    printed = command(BIN / "python", JOB, "--help")

    assert "ray job submit" in printed
    assert "--cluster laptop" in printed
