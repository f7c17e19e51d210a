"""Batch inference by the clock: what is applied to Kubernetes, and what a job of it does.

The Kubernetes is a fake that holds everything against KubeRay's CRDs; the storage is real.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.crd import needs_crds, violations
from kube_server import KubeServer

import eksml
from eksml import Cluster, cpu
from eksml.backends.kube import client as kube_client
from eksml.batches import callable_model
from eksml.batches.schedule import compute, manifest
from eksml.errors import ClusterError, DoesNotFit, InvalidSpec, RunFailed
from eksml.storage import URI

sys.path.insert(0, str(Path(__file__).parent))
from counted import Counted, computed, read_output, write_input

GATED = {"gates": ("RayCronJob",)}


def eks(**fields) -> Cluster:
    said = {"name": "demo", "backend": "eks", "operator": GATED}
    return Cluster(groups=(cpu("m7i.xlarge", nodes=(0, 4)),), **(said | fields))


@pytest.fixture
def kube(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeServer]:
    """A fake API server that this process is configured for."""
    with KubeServer() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(kube_client, "_FIRST_PAUSE_S", 0.02)
        yield server


@pytest.fixture
def call(bucket: URI, tmp_path: Path) -> dict:
    """The arguments of a call whose input, output and storage are in S3."""
    write_input(bucket / "in", 200, files=2)
    return {
        "model": callable_model(Counted, arguments={"notes": str(tmp_path / "notes")}),
        "data": bucket / "in",
        "output": bucket / "out",
        "storage": bucket / "runs",
        "name": "nightly",
        "since": "watermark",
        "schedule": "0 3 * * *",
    }


def cron_jobs(kube: KubeServer) -> list[dict]:
    return [thing for thing in kube.store.all() if thing["kind"] == "RayCronJob"]


@needs_crds
def test_the_manifest_is_one_that_kuberay_takes() -> None:
    made = manifest(eks(), "nightly", "0 3 * * *", URI.parse("s3://runs/.code/call-1"))

    assert violations(made) == []
    assert made["metadata"]["name"] == "nightly"
    assert made["spec"]["schedule"] == "0 3 * * *"
    job = made["spec"]["jobTemplate"]
    assert job["entrypoint"] == "python -m eksml.batches --series s3://runs/.code/call-1"
    assert job["rayClusterSpec"]["workerGroupSpecs"][0]["maxReplicas"] == 4


@needs_crds
def test_a_schedule_is_applied_changed_and_deleted(kube: KubeServer, call: dict) -> None:
    schedule = eksml.batch(**call, cluster=eks())
    eksml.batch(**call | {"schedule": "@hourly"}, cluster=eks())

    (live,) = cron_jobs(kube)
    assert (live["metadata"]["name"], live["spec"]["schedule"]) == ("nightly", "@hourly")
    assert schedule.manifest["spec"]["schedule"] == "0 3 * * *"
    account = ("v1", "ServiceAccount", "default", "demo")
    assert kube.store.get(account)["metadata"]["ownerReferences"][0]["kind"] == "RayCronJob"

    schedule.delete()
    schedule.delete()
    kube.store.collect()  # as Kubernetes' garbage collector does, from owned to owner
    kube.store.collect()
    assert cron_jobs(kube) == []
    assert kube.store.get(account) is None


@needs_crds
def test_a_schedule_that_is_refused_leaves_nothing(kube: KubeServer, call: dict) -> None:
    kube.forbidden.append(("PATCH", "/raycronjobs"))

    with pytest.raises(ClusterError, match="forbidden"):
        eksml.batch(**call, cluster=eks())

    assert {thing["kind"] for thing in kube.store.all()} <= {"Event", "Namespace"}


@needs_crds
def test_a_job_is_the_call_in_a_process_of_its_own(
    kube: KubeServer, call: dict, tmp_path: Path
) -> None:
    entrypoint = eksml.batch(**call, cluster=eks()).manifest["spec"]["jobTemplate"]["entrypoint"]

    python, *words = shlex.split(entrypoint)
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert python == "python"
    assert [run.name for run in eksml.list_runs(call["storage"])] == ["nightly-000001"]
    assert len(read_output(call["output"] / "edition=000001")) == 200
    assert computed(tmp_path / "notes") == dict.fromkeys(range(200), 1)


class FailsWhile:
    """A model that fails while there is a file."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def __call__(self, batch: dict) -> dict:
        if self.file.exists():
            raise ValueError("the file is there")
        return {"square": batch["n"] ** 2}


@pytest.mark.usefixtures("embedded_ray")
def test_a_job_after_one_that_failed_finishes_its_edition_and_computes_the_next(
    tmp_path: Path,
) -> None:
    write_input(URI.parse(tmp_path / "in"), 200, files=1)
    (tmp_path / "outage").touch()
    call = {
        "model": callable_model(FailsWhile, arguments={"file": str(tmp_path / "outage")}),
        "data": tmp_path / "in",
        "output": tmp_path / "out",
        "name": "nightly",
        "since": "watermark",
        "storage": str(tmp_path / "runs"),
        "workers": 1,
    }
    with pytest.raises(RunFailed, match="the file is there"):
        compute(**call)
    (tmp_path / "outage").unlink()
    write_input(URI.parse(tmp_path / "in" / "more"), 50, files=1)

    compute(**call)

    runs = eksml.list_runs(tmp_path / "runs")
    assert [(run.name, run.result()["rows"]) for run in runs] == [
        ("nightly-000002", 50),
        ("nightly-000001", 200),
    ]
    assert len(read_output(URI.parse(tmp_path / "out"))) == 250


@pytest.mark.parametrize(
    ("changes", "paths"),
    [
        ({"cluster": None}, ["cluster"]),
        ({"cluster": "demo"}, ["cluster"]),
        ({"cluster": Cluster(name="here")}, ["cluster"]),
        ({"cluster": eks(operator={})}, ["kind"]),
        ({"schedule": "0 25 * * *"}, ["schedule"]),
        ({"name": "Nightly"}, ["metadata.name"]),
        ({"name": None, "since": None, "retry_errors": True}, ["since", "name", "retry_errors"]),
        ({"storage": "runs", "workers": 0}, ["workers", "storage"]),
    ],
)
def test_what_the_clock_cannot_do_is_told_before_anything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, paths: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_input(URI.parse(tmp_path / "in"), 100, files=1)
    good = {
        "storage": "s3://bucket/runs",
        "name": "nightly",
        "since": "watermark",
        "schedule": "0 3 * * *",
        "cluster": eks(),
    }
    with pytest.raises(InvalidSpec) as caught:
        eksml.batch(Counted, tmp_path / "in", "s3://bucket/out", **(good | changes))

    assert [problem.path for problem in caught.value.problems] == paths
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_local_cluster_is_told_of_cron(tmp_path: Path) -> None:
    write_input(URI.parse(tmp_path / "in"), 100, files=1)
    with pytest.raises(InvalidSpec, match=r"'here' is a local cluster.*let cron make the call"):
        eksml.batch(
            Counted,
            tmp_path / "in",
            "s3://bucket/out",
            storage="s3://bucket/runs",
            name="nightly",
            since="watermark",
            schedule="@daily",
            cluster=Cluster(name="here"),
        )


def test_workers_that_never_fit_are_told(call: dict) -> None:
    with pytest.raises(DoesNotFit, match="batch workers"):
        eksml.batch(**call, cluster=eks(), resources={"GPU": 1})
