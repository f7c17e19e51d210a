"""``URI`` names places; these tests touch no storage but local folders."""

from __future__ import annotations

import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import AccessDenied, InvalidSpec, NotFound, StorageUnavailable
from eksml.storage import URI

PART = st.text(
    st.characters(exclude_characters="/", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20
).filter(lambda part: part not in (".", ".."))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://models", "s3://models"),
        ("s3://models/", "s3://models"),
        ("s3://models/digits/v1/", "s3://models/digits/v1"),
        ("/data/runs/", "/data/runs"),
        ("/data//runs/./x", "/data/runs/x"),
        ("file:///data/my%20runs", "/data/my runs"),
        ("runs", str(Path.cwd() / "runs")),
        ("~/runs", str(Path.home() / "runs")),
        (Path("/data/runs"), "/data/runs"),
    ],
)
def test_places_are_read(text: str | Path, expected: str) -> None:
    assert str(URI.parse(text)) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("gs://models/x", "unknown scheme gs"),
        ("https://models.s3.amazonaws.com/x", "unknown scheme https"),
        ("file://host/x", "names a host"),
        ("", "is empty"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://Models/x", "bucket name 'Models'"),
        ("s3://ab/x", "bucket name 'ab'"),
        ("s3://user:secret@models/x", "bucket name"),
        ("s3://-models/x", "bucket name"),
        ("s3://a..b/x", "bucket name"),
        ("s3://10.0.0.1/x", "bucket name"),
        ("s3://models/a//b", "empty part"),
        ("s3://models/a/../b", "holds '..'"),
        ("../runs", "holds '..'"),
        ("/data/../etc", "holds '..'"),
        ("/data/\0", "control characters"),
        ("s3://models/a\nb", "control characters"),
        ("s3://models/" + "k" * 1025, "longer than"),
    ],
)
def test_bad_places_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidSpec, match=reason):
        URI.parse(text)


@given(st.lists(PART, min_size=1, max_size=4))
def test_every_place_reads_back_as_itself(parts: list[str]) -> None:
    for root in (URI.parse("s3://models"), URI.parse("/data")):
        place = root
        for part in parts:
            place = place / part
        assert URI.parse(str(place)) == place
        assert pickle.loads(pickle.dumps(place)) == place
        assert place.name == parts[-1]
        assert place.parent / place.name == place
        assert root / place.relative_to(root) == place


@pytest.mark.parametrize("name", ["", "/etc", "..", "a/../b", "a//b", ".", "a\0"])
def test_a_name_cannot_leave_its_folder(name: str) -> None:
    with pytest.raises(InvalidSpec):
        URI.parse("/data") / name


def test_roots_are_their_own_parents() -> None:
    assert URI.parse("/").parent == URI.parse("/")
    assert URI.parse("s3://models").parent == URI.parse("s3://models")
    assert str(URI.parse("/") / "data") == "/data"


def test_places_sort_and_serve_as_keys() -> None:
    a, b = URI.parse("s3://models/a"), URI.parse("s3://models/b")
    assert sorted([b, a]) == [a, b]
    assert {a: 1}[URI.parse("s3://models/a/")] == 1


def test_only_local_places_have_a_path() -> None:
    assert URI.parse("/data/x").path == Path("/data/x")
    with pytest.raises(InvalidSpec, match="not a local path"):
        _ = URI.parse("s3://models/x").path


def test_a_place_below_a_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(AccessDenied, match="file/runs"):
        URI.parse(tmp_path / "file" / "runs").check_writable()


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="needs a place that even root can't write")
def test_a_read_only_place_is_refused_before_anything_starts() -> None:
    with pytest.raises(AccessDenied, match=r"Cannot write /proc/sys/runs"):
        URI.parse("/proc/sys/runs").check_writable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(AccessDenied, match="change its permissions"):
        URI.parse(tmp_path).check_writable()


def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    file = URI.parse(tmp_path / "file")
    file.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(StorageUnavailable, match="Free some space"):
            file.write_bytes(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_importing_storage_imports_no_client_library() -> None:
    code = "import sys, eksml.storage; print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    heavy = {"boto3", "botocore", "pydantic", "ray", "torch"}
    assert not heavy & set(imported.decode().split())


def test_a_missing_local_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        URI.parse(tmp_path / "absent").read_bytes()
