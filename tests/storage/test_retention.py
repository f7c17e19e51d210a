"""What may be deleted, and what never."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eksml.errors import Damaged, InvalidSpec
from eksml.storage import (
    URI,
    commit_files,
    committed,
    read_manifest,
    retain,
    sweep,
    verify,
    write_part,
)


def make(root: URI, name: str, state: str = "good") -> None:
    """One folder in a state that a crash or a disk can leave."""
    if state == "uncommitted":
        write_part(root / name, "weights", b"12345678")
        return
    manifest = commit_files(root / name, {"weights": b"12345678"}, {"name": name})
    part = root / name / manifest.parts[0].file
    match state:
        case "part missing":
            part.delete()
        case "part truncated":
            part.write_bytes(b"1234")
        case "manifest damaged":
            (root / name / "manifest.json").write_bytes(b"{}")


def names(root: URI) -> list[str]:
    return sorted({stat.uri.relative_to(root).split("/")[0] for stat in root.list(recursive=True)})


def is_good(folder: URI) -> bool:
    try:
        return read_manifest(folder) is not None and bool(verify(folder))
    except Damaged:
        return False


def test_the_newest_sets_are_kept(root: URI) -> None:
    for step in range(5):
        make(root, f"step-{step}")
    assert [folder.name for folder in retain(root, keep=2)] == ["step-2", "step-1", "step-0"]
    assert [folder.name for folder in committed(root)] == ["step-3", "step-4"]
    assert names(root) == ["step-3", "step-4"]


def test_damaged_sets_do_not_push_out_the_newest_good_one(root: URI) -> None:
    make(root, "step-0")
    make(root, "step-1")
    make(root, "step-2", "part missing")
    make(root, "step-3", "part truncated")
    make(root, "step-4", "manifest damaged")
    make(root, "step-5", "uncommitted")
    assert [folder.name for folder in retain(root, keep=1)] == ["step-0"]
    assert names(root) == ["step-1", "step-2", "step-3", "step-4", "step-5"]


STATES = st.sampled_from(
    ["good", "good", "uncommitted", "part missing", "part truncated", "manifest damaged"]
)


@settings(max_examples=40, deadline=None)
@given(states=st.lists(STATES, max_size=7), keep=st.integers(1, 3))
def test_retention_never_removes_one_of_the_newest_good_sets_nor_anything_newer(
    states: list[str], keep: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = URI.parse(folder)
        for step, state in enumerate(states):
            make(root, f"{step}", state)
        before = names(root)
        good = [name for name in before if is_good(root / name)]
        gone = [folder.name for folder in retain(root, keep)]
        kept = good[-keep:]
        assert names(root) == [name for name in before if name not in gone]
        assert not set(gone) & set(kept)
        assert all(name < kept[0] for name in gone)
        assert not any(states[int(name)] == "uncommitted" for name in gone)
        if len(good) >= keep:
            older = [name for name in before if name < kept[0]]
            assert set(gone) == {n for n in older if states[int(n)] != "uncommitted"}
        else:
            assert gone == []


def test_nothing_can_be_kept_by_keeping_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="Keep at least 1"):
        retain(URI.parse(tmp_path), keep=0)


def test_sweeping_removes_only_what_was_never_committed(root: URI) -> None:
    make(root, "step-0")
    make(root, "step-1", "uncommitted")
    make(root, "step-2", "manifest damaged")
    stray = root / "step-0" / write_part(root / "step-0", "weights", b"late").file
    assert sweep(root, older_than_s=3600) == []
    assert set(sweep(root, older_than_s=0)) == {stray, root / "step-1"}
    assert names(root) == ["step-0", "step-2"]
    verify(root / "step-0")
    assert sweep(root, older_than_s=0) == []


def test_sweeping_removes_half_written_files_of_killed_writers(tmp_path: Path) -> None:
    root = URI.parse(tmp_path)
    make(root, "step-0")
    half = tmp_path / "step-1" / ".eksml-0123456789abcdef.tmp"
    half.parent.mkdir()
    half.write_bytes(b"half")
    assert names(root) == ["step-0"]
    sweep(root, older_than_s=0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-0"]
