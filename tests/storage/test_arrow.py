"""The storage as pyarrow's filesystem: the same places, and patience on flaky S3."""

from __future__ import annotations

import pickle

import pytest
from pyarrow.fs import LocalFileSystem

from eksml.storage import URI, arrow_filesystem
from eksml.testing import FaultProxy, S3Server

REFUSALS = 3
"""In a row; after so many pyarrow gives a call up, unless it is told otherwise."""


def test_what_pyarrow_writes_is_found_by_the_uri(root: URI) -> None:
    path, filesystem = arrow_filesystem(root)
    filesystem.create_dir(path)
    with filesystem.open_output_stream(f"{path}/table") as file:
        file.write(b"rows")
    assert (root / "table").read_bytes() == b"rows"


def test_a_local_folder_needs_no_s3(tmp_path) -> None:
    assert arrow_filesystem(URI.parse(tmp_path)) == (str(tmp_path), LocalFileSystem())


def test_in_another_process_it_is_as_patient_as_here(
    s3_server: S3Server, bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        path, filesystem = arrow_filesystem(bucket)
        travelled = pickle.loads(pickle.dumps(filesystem))
        for _ in range(REFUSALS):
            proxy.once("503", method="PUT")
        travelled.create_dir(f"{path}/folder/")
        assert proxy.faults["503"] == REFUSALS
