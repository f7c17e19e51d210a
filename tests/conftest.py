"""Real servers for the tests, started once a session."""

from __future__ import annotations

import functools
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from division import Division, long_files_first

from eksml.storage import URI
from eksml.testing import S3Server

# No law is broken by a machine that has something else to do
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# A shell that starts the tests in the background has them ignore Ctrl-C, and all that they start
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config) -> Division:
    return Division(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes, which shall end together
        long_files_first(items)


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


@pytest.fixture(scope="session")
def undisturbed(
    embedded_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], tuple]:
    """The outcome of ``loops.fit`` on two workers that nothing happens to, by its steps."""
    from loops import fit, outcome

    import eksml

    @functools.cache
    def of(total: int) -> tuple:
        folder = tmp_path_factory.mktemp("undisturbed")
        return outcome(eksml.train(fit, config={"total": total}, storage=folder, workers=2))

    return of
