"""What a path means: files, folders, patterns, several of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from source_files import everything

from eksml.batches.sources import source_of, text
from eksml.storage import URI

NAMES = ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "_log/e.txt", "sub/.hidden.txt"]


@pytest.fixture
def folder(root: URI) -> URI:
    for name in NAMES:
        (root / name).write_bytes(name.encode())
    return root


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("/sub", ["sub/c.txt", "sub/deep/d.txt"]),
        ("/a.txt", ["a.txt"]),
        ("/_log/e.txt", ["_log/e.txt"]),
        ("/*.txt", ["a.txt", "b.txt"]),
        ("/[ab]*", []),
        ("/*/*.txt", ["sub/c.txt"]),
        ("/**/*.txt", ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("/s*/**", ["sub/c.txt", "sub/deep/d.txt"]),
        ("/*b/*.txt", ["sub/c.txt"]),
    ],
)
def test_a_path_names_its_files(folder: URI, pattern: str, found: list[str]) -> None:
    from eksml.batches.sources.files import listed

    names = [stat.uri.relative_to(folder) for stat in listed(f"{folder}{pattern}")]
    assert names == found


def test_several_paths_are_one_input_and_no_file_is_read_twice(folder: URI) -> None:
    paths = [f"{folder}/sub", f"{folder}/*.txt", f"{folder}/a.txt"]
    rows = everything(source_of(paths))["text"].to_pylist()
    assert rows == ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt"]


def test_a_source_is_its_own_source(tmp_path: Path) -> None:
    source = text(tmp_path)
    assert source_of(source) is source


def test_relative_paths_are_of_the_folder_in_which_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    source = text(Path("a.txt"))
    monkeypatch.chdir(os.sep)
    assert source.describe() == {"kind": "text", "path": [str(tmp_path / "a.txt")]}
    assert everything(source)["text"].to_pylist() == ["x"]
