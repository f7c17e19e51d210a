"""What is wrong with a call is told before anything starts, once, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import eksml
from eksml.errors import (
    AccessDenied,
    CallError,
    ClusterNotUp,
    DoesNotFit,
    InvalidSpec,
    NotFound,
)
from eksml.storage import URI


def fit(ctx):
    raise AssertionError("a wrong call must not start")


def refused(error: type[Exception], said: str, storage, function=fit, **call) -> None:
    """Make the call; it raises ``error`` and leaves no file in its storage."""
    with pytest.raises(error, match=said):
        eksml.train(function, storage=storage, **call)
    assert list(URI.parse(storage).list(recursive=True)) == []


def test_every_problem_of_a_call_is_told_at_once(tmp_path):
    with pytest.raises(InvalidSpec) as caught:
        eksml.train(
            fit,
            workers=-1,
            resources={"GPU": -1},
            name="a/b",
            checkpoint={"every_stepz": 1},
            storage=tmp_path,
        )
    assert [problem.path for problem in caught.value.problems] == [
        "name",
        "workers",
        "resources.GPU",
        "checkpoint.every_stepz",
    ]
    assert "Did you mean 'every_steps'?" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("checkpoint.every_stepz", {"checkpoint": {"every_stepz": 1}}),
        ("checkpoint.every_steps", {"checkpoint": {"every_steps": 0}}),
        ("checkpoint", {"checkpoint": "often"}),
        ("workers", {"workers": "two"}),
        ("workers", {"workers": 0}),
        ("resources", {"resources": 3}),
        ("resources.CPU", {"resources": {"CPU": 0}}),
        ("max_failures", {"max_failures": -2}),
        ("seed", {"seed": 0.5}),
        ("config", {"config": 3}),
        ("name", {"name": 3}),
        ("name", {"name": ".."}),
        ("data.train", {"data": 5}),
        ("data.test", {"data": {"test": "digits.docx"}}),
        ("deadline_s", {"deadline_s": "soon"}),
        ("deadline_s", {"deadline_s": -1}),
        ("budget_node_hours", {"budget_node_hours": 0}),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, path, call):
    refused(InvalidSpec, rf"eksml.train has 1 problem:\n  - {path}: ", tmp_path, **call)


@pytest.mark.parametrize("function", [None, 5, "fit"])
def test_what_is_no_function_is_refused(tmp_path, function):
    refused(InvalidSpec, "fn: .* is not a function", tmp_path, function)


@pytest.mark.parametrize("storage", [3, "ftp://host/runs", "s3://", "s3://Bucket/runs"])
def test_what_is_no_storage_is_refused(storage):
    with pytest.raises(InvalidSpec, match="storage: "):
        eksml.train(fit, storage=storage)


@pytest.mark.parametrize(
    ("resources", "workers", "said"),
    [
        ({"CPU": 1}, 99, "99 workers with CPU 1 each: 8 fit"),
        ({"GPU": 1}, 1, "no node has enough GPU"),
        ({"neuron_cores": 2}, 1, "no node has enough neuron_cores"),
    ],
)
def test_workers_that_can_never_be_placed_are_refused(
    embedded_ray, tmp_path, resources, workers, said
):
    refused(DoesNotFit, said, tmp_path, workers=workers, resources=resources)


def test_a_cluster_that_is_not_up_is_named(tmp_path):
    refused(ClusterNotUp, "No cluster named 'nowhere' is up", tmp_path, cluster="nowhere")


def test_a_bucket_that_does_not_exist_is_named(bucket):
    with pytest.raises(NotFound, match="The bucket 'no-such-bucket' does not exist"):
        eksml.train(fit, storage="s3://no-such-bucket/runs")


def test_missing_credentials_are_told_with_the_remedy(bucket, monkeypatch):
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            patch.setenv(name, os.devnull)
        with pytest.raises(AccessDenied, match=r"No valid AWS credentials.*aws configure"):
            eksml.train(fit, storage=bucket)
    assert list(bucket.list(recursive=True)) == []


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a place that even root can't write")
def test_a_read_only_folder_is_refused():
    refused(AccessDenied, "Cannot write /proc/sys/runs", "/proc/sys/runs")


def test_a_function_that_cannot_travel_names_the_variable_to_blame(tmp_path):
    guard = threading.Lock()

    def locked(ctx):
        with guard:
            fit(ctx)

    said = r"locked cannot travel: its variable 'guard' holds a _thread.lock"
    refused(CallError, said, tmp_path, locked)
    config = {"model": {"guard": threading.Lock()}}
    refused(CallError, "'guard' holds a _thread.lock", tmp_path, config=config)


@pytest.mark.parametrize(
    "config",
    [
        {"s3": {"aws_secret_access_key": "confidential"}},
        {"note": "the key is AKIA" + "Q" * 16},
    ],
)
def test_aws_keys_in_the_configuration_are_refused_and_not_shown(tmp_path, config):
    with pytest.raises(CallError, match=r"AWS credentials in config\[.*Pod Identity") as caught:
        eksml.train(fit, config=config, storage=tmp_path)
    assert "confidential" not in str(caught.value)
    assert "AKIA" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_call_ends_a_script_at_once_with_one_message(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, eksml\n"
        "def fit(ctx): ...\n"
        "try:\n"
        "    eksml.train(fit, workers=-1, storage=sys.argv[1])\n"
        "finally:\n"
        "    print('ray' in sys.modules)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("workers: -1") == 1
    assert "Warning" not in done.stderr
    assert done.stdout == "False\n"  # not even Ray was started
    assert not (tmp_path / "runs").exists()
