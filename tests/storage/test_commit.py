"""Sets of files: there whole or not at all, and every byte proven."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eksml.errors import AlreadyExists, Damaged, InvalidSpec, NotFound
from eksml.storage import (
    URI,
    Manifest,
    commit,
    commit_files,
    read_manifest,
    read_part,
    verify,
    write_part,
)

LARGE = 20 * 2**20


def test_a_set_exists_from_its_commit_on(root: URI) -> None:
    folder = root / "step-1"
    parts = [write_part(folder, f"shard-{rank}", bytes([rank]) * 100) for rank in range(3)]
    assert read_manifest(folder) is None
    with pytest.raises(NotFound, match="no committed set"):
        verify(folder)
    written = commit(folder, parts, {"step": 1})
    assert read_manifest(folder) == written == verify(folder)
    assert written.meta == {"step": 1}
    assert [read_part(folder, part) for part in parts] == [bytes([n]) * 100 for n in range(3)]


def test_files_by_name_are_committed_in_one_call(root: URI, tmp_path: Path) -> None:
    (tmp_path / "local.txt").write_text("from disk")
    commit_files(root / "set", {"a/b.bin": b"bytes", "copy.txt": tmp_path / "local.txt"})
    assert read_part(root / "set", "a/b.bin") == b"bytes"
    assert read_part(root / "set", "copy.txt") == b"from disk"


def test_a_missing_local_file_stops_the_commit(root: URI, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        commit_files(root / "set", {"a": b"1", "b": tmp_path / "absent"})
    assert read_manifest(root / "set") is None


def test_a_large_part_in_several_buffers_comes_back_writable(root: URI) -> None:
    weights = np.random.default_rng(0).random(LARGE // 8)
    part = write_part(root / "set", "weights", [b"head", memoryview(weights)])
    commit(root / "set", [part])
    data = read_part(root / "set", "weights")
    array = np.frombuffer(memoryview(data)[4:], dtype=weights.dtype)
    assert np.array_equal(array, weights)
    assert array.flags.writeable


def test_one_of_sixteen_racing_committers_wins_and_its_set_is_whole(root: URI) -> None:
    folder = root / "step-1"

    def write(writer: int) -> tuple[int, Manifest] | None:
        parts = [write_part(folder, f"shard-{n}", bytes([writer]) * 1000) for n in range(2)]
        try:
            return writer, commit(folder, parts, {"writer": writer})
        except AlreadyExists:
            return None

    with ThreadPoolExecutor(16) as pool:
        winners = [result for result in pool.map(write, range(16)) if result is not None]
    [(writer, manifest)] = winners
    assert verify(folder) == manifest
    assert {bytes(read_part(folder, part)) for part in manifest.parts} == {bytes([writer]) * 1000}
    with pytest.raises(AlreadyExists, match="step-1 was committed by another writer"):
        commit(folder, [])


def test_a_late_writer_cannot_change_a_committed_set(root: URI) -> None:
    commit_files(root / "set", {"weights": b"good"})
    write_part(root / "set", "weights", b"late")
    assert read_part(root / "set", "weights") == b"good"


def test_every_flipped_byte_is_found_and_named(root: URI) -> None:
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    choose = random.Random(seed)
    manifest = commit_files(root / "set", {"weights.bin": os.urandom(5_000)})
    file = root / "set" / manifest.parts[0].file
    good = file.read_bytes()
    for _ in range(100):
        bad = bytearray(good)
        bad[choose.randrange(len(bad))] ^= choose.randrange(1, 256)
        file.write_bytes(bad)
        with pytest.raises(Damaged, match=rf"{file} is damaged: SHA-256 is"):
            read_part(root / "set", "weights.bin")
    file.write_bytes(good)
    verify(root / "set")


def test_every_flipped_byte_of_a_manifest_is_found(tmp_path: Path) -> None:
    folder = URI.parse(tmp_path)
    commit_files(folder, {"weights.bin": b"1234"}, {"step": 7, "loss": 0.25})
    good = read_manifest(folder)
    text = (folder / "manifest.json").read_bytes()
    found = 0
    for index in range(len(text)):
        bad = bytearray(text)
        bad[index] ^= 1
        (folder / "manifest.json").write_bytes(bad)
        try:
            # a blank between two values may change unseen, nothing that means something
            assert read_manifest(folder) == good
        except Damaged:
            found += 1
    assert found > len(text) / 2


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"sha256": 1}', b"\xff\xfe", b"null"])
def test_what_is_not_a_manifest_is_damaged(root: URI, text: bytes) -> None:
    (root / "set" / "manifest.json").write_bytes(text)
    with pytest.raises(Damaged, match="manifest"):
        read_manifest(root / "set")


def test_a_truncated_or_missing_part_is_named(root: URI) -> None:
    manifest = commit_files(root / "set", {"weights.bin": b"12345678"})
    file = root / "set" / manifest.parts[0].file
    file.write_bytes(b"1234")
    with pytest.raises(Damaged, match="4 bytes instead of 8"):
        verify(root / "set")
    file.delete()
    with pytest.raises(Damaged, match="is missing from the set"):
        verify(root / "set")


def test_an_unknown_part_is_told_with_those_there_are(root: URI) -> None:
    commit_files(root / "set", {"a": b"1", "b": b"2"})
    with pytest.raises(NotFound, match=r"no part 'c'\. Its parts: a, b"):
        read_part(root / "set", "c")


def test_what_cannot_be_a_set_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = URI.parse(tmp_path / "set")
    part = write_part(folder, "a", b"1")
    with pytest.raises(InvalidSpec, match="'a' is there more than once"):
        commit(folder, [part, replace(part, file="other")])
    with pytest.raises(InvalidSpec, match="meta: is not JSON"):
        commit(folder, [part], {"when": object()})
    with pytest.raises(InvalidSpec, match=r"holds '\.\.'"):
        write_part(folder, "../a", b"1")
    assert read_manifest(folder) is None
