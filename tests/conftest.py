"""Real servers for the tests, started once a session."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from eksml.storage import URI
from eksml.testing import S3Server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture(scope="session")
def shared_bucket(s3_server: S3Server) -> URI:
    return URI.parse(s3_server.make_bucket("eksml-tests"))


@pytest.fixture
def bucket(s3_server: S3Server, shared_bucket: URI, monkeypatch: pytest.MonkeyPatch) -> URI:
    """A fresh place in S3; this process and those that it starts have the credentials for it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_server.env().items():
        monkeypatch.setenv(name, value)
    return shared_bucket / secrets.token_hex(6)


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> URI:
    """An empty folder in each kind of storage."""
    if request.param == "file":
        return URI.parse(tmp_path / "root")
    bucket: URI = request.getfixturevalue("bucket")
    return bucket / "root"


@pytest.fixture(scope="session")
def embedded_ray():
    """One Ray for all tests of this session that need one in their own process."""
    import ray

    from eksml.runs.connect import connect

    connect(num_cpus=8)
    yield
    ray.shutdown()
