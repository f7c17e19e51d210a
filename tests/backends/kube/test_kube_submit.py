"""Jobs with a cluster of their own; the Kubernetes and the operator are fakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kube_server import FakeOperator, KubeServer, Script

from eksml import Cluster
from eksml.backends.kube.submit import find_job, submit
from eksml.cluster.workloads import RayJobSpec
from eksml.errors import CallError, ClusterError, ClusterInUse, ClusterNotUp, InvalidSpec
from eksml.runs import ray_job
from eksml.storage import URI

JOB = RayJobSpec(entrypoint="python train.py")


def kinds_there(kube: KubeServer) -> set[str]:
    return {thing["kind"] for thing in kube.store.all()} - {"Event", "Namespace"}


def test_a_job_runs_to_its_end_and_takes_everything_with_it(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    job = submit(cluster, JOB, name="train")
    state = job.wait(10)
    assert state.succeeded
    assert str(state) == "Complete, SUCCEEDED"
    assert find_job("train").state() == state
    assert "RayCluster" in kinds_there(kube)
    job.delete()
    job.delete()
    with kube.store.changed:
        while kinds_there(kube):
            assert kube.store.changed.wait(5), kinds_there(kube)
    with pytest.raises(ClusterNotUp):
        job.state()


def test_two_jobs_share_what_is_around_them_until_the_last_is_gone(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    first, second = submit(cluster, JOB), submit(cluster, JOB)
    assert first.name != second.name
    first.delete()
    with kube.store.changed:
        while kube.store.get(("ray.io/v1", "RayJob", "default", first.name)):
            assert kube.store.changed.wait(5)
    account = ("v1", "ServiceAccount", "default", "demo")
    assert kube.store.get(account) is not None
    second.delete()
    with kube.store.changed:
        while kube.store.get(account):
            assert kube.store.changed.wait(5)


def test_a_failed_job_says_so(kube: KubeServer, cluster: Cluster) -> None:
    with FakeOperator(kube, Script(job=("Failed", "FAILED"))):
        state = submit(cluster, JOB).wait(10)
        assert state.ended
        assert not state.succeeded


def test_a_job_that_waits_says_why(kube: KubeServer, cluster: Cluster) -> None:
    with (
        FakeOperator(kube, Script("image", job=("Initializing", ""))),
        pytest.raises(ClusterError, match=r"has not ended in 0\.5 s.*pull"),
    ):
        submit(cluster, JOB).wait(0.5)


def test_a_refused_job_leaves_nothing(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    kube.forbidden.append(("POST", "/rayjobs"))
    with pytest.raises(ClusterError, match="forbidden"):
        submit(cluster, JOB)
    assert kinds_there(kube) == set()


def test_a_name_is_used_once_and_is_not_too_long(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster
) -> None:
    submit(cluster, JOB, name="train")
    with pytest.raises(ClusterInUse, match="Choose another name"):
        submit(cluster, JOB, name="train")
    with pytest.raises(InvalidSpec, match="takes 47"):
        submit(cluster, JOB, name="a" * 48)


def test_the_working_folder_travels_through_s3(
    kube: KubeServer, operator: FakeOperator, cluster: Cluster, bucket: URI, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("print('hello')\n")
    job = ray_job.submit(cluster, JOB, folder=folder, storage=bucket, name="train")
    live = kube.store.get(("ray.io/v1", "RayJob", "default", job.name))
    working_dir = yaml.safe_load(live["spec"]["runtimeEnvYAML"])["working_dir"]
    assert working_dir.startswith("s3://")
    assert working_dir.endswith(".zip")
    assert URI.parse(working_dir).read_bytes().startswith(b"PK")


def test_a_folder_that_pods_cannot_read_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    job = RayJobSpec(entrypoint="true", runtime_env={"working_dir": "s3://b/c.zip"})
    with pytest.raises(InvalidSpec) as refused:
        ray_job.submit(cluster, job, folder=tmp_path, storage=tmp_path)
    assert [p.path for p in refused.value.problems] == ["storage", "runtime_env.working_dir"]
    with pytest.raises(CallError, match="is not there"):
        ray_job.submit(cluster, JOB, folder=tmp_path / "none", storage="s3://bucket/x")
