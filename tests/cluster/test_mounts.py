"""Storage on nodes: every path is free, and appears once."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import Cluster, cpu
from eksml.cluster import ClaimMount, FsxMount, Head, S3Mount, SecretMount
from eksml.errors import InvalidSpec


def problems_of(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        Cluster(**({"name": "x"} | fields))
    return {problem.path: str(problem) for problem in refused.value.problems}


def test_a_file_says_by_its_kind_what_is_mounted() -> None:
    cluster = Cluster.from_yaml("""
        name: x
        mounts:
          - {kind: fsx, claim: lustre, path: /fsx}
          - {kind: s3, bucket: datasets, path: /datasets, prefix: images/}
          - {kind: claim, claim: models, path: /models, read_only: true}
          - {kind: secret, secret: hub, path: /etc/hub}
    """)
    assert cluster.mounts == (
        FsxMount(claim="lustre", path="/fsx"),
        S3Mount(bucket="datasets", path="/datasets", prefix="images/"),
        ClaimMount(claim="models", path="/models", read_only=True),
        SecretMount(secret="hub", path="/etc/hub"),
    )
    assert [mount["kind"] for mount in cluster.model_dump()["mounts"]] == [
        "fsx",
        "s3",
        "claim",
        "secret",
    ]
    assert Cluster.from_yaml(cluster.to_yaml()) == cluster


def test_problems_name_the_field_and_not_the_kind() -> None:
    mounts = [
        {"kind": "s3", "bucket": "s3://b", "path": "data", "prefx": "a/"},
        {"kind": "nfs", "path": "/data"},
        {"path": "/data"},
    ]
    told = problems_of(mounts=mounts)
    assert set(told) == {
        "mounts.0.bucket",
        "mounts.0.path",
        "mounts.0.prefx",
        "mounts.1.kind",
        "mounts.2.kind",
    }
    assert "Did you mean 'prefix'?" in told["mounts.0.prefx"]
    assert "fsx, s3, claim, secret" in told["mounts.1.kind"]


NOT_PATHS = ("", "data", "/", "/data/", "/a/../b", "/a//b", "/a:b")
SYSTEMS = ("/dev", "/dev/shm", "/proc/1", "/etc", "/usr", "/home", "/home/ray", "/var", "/tmp")
TAKEN = ("/home/ray/anaconda3", "/tmp/ray", "/tmp/ray/x", "/var/run/secrets/kubernetes.io")
SCRATCH = ("/mnt", "/mnt/scratch", "/mnt/scratch/x")


@pytest.mark.parametrize("path", [*NOT_PATHS, *SYSTEMS, *TAKEN, *SCRATCH])
def test_a_path_that_would_hide_something_is_refused(path: str) -> None:
    with pytest.raises(InvalidSpec, match="path"):
        FsxMount(claim="x", path=path)


@pytest.mark.parametrize("path", ["/data", "/mnt/fsx", "/home/ray/data", "/etc/hub", "/tmp/raw"])
def test_other_paths_are_free(path: str) -> None:
    assert FsxMount(claim="x", path=path).path == path


@pytest.mark.parametrize(
    "fields",
    [
        {"bucket": "Upper"},
        {"bucket": "a"},
        {"bucket": "a..b"},
        {"bucket": "10.0.0.1"},
        {"prefix": "/a/"},
        {"prefix": "a"},
        {"prefix": ""},
    ],
)
def test_a_bucket_that_cannot_be_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec, match=next(iter(fields))):
        S3Mount(**({"bucket": "datasets", "path": "/data"} | fields))


def test_two_mounts_on_one_path_are_refused_wherever_they_are_said() -> None:
    mount = FsxMount(claim="a", path="/data")
    told = problems_of(
        mounts=(mount, ClaimMount(claim="b", path="/data")),
        head=Head(mounts=(mount,)),
        groups=(cpu(mounts=(mount,)),),
    )
    assert set(told) == {"mounts.1.path", "head.mounts.0.path", "groups.0.mounts.0.path"}
    with pytest.raises(InvalidSpec, match=r"mounts\.1\.path: '/data' is the path of mounts\.0"):
        cpu(mounts=(mount, mount))
