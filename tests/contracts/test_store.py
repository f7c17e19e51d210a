"""What every store promises, on a local folder and on a real S3 server."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from eksml.errors import AlreadyExists, Damaged, EksmlError, NotFound
from eksml.storage import URI

LARGE = 40 * 2**20 + 1  # three parts of a multipart upload, the last of them small


def names(root: URI, recursive: bool = True) -> list[str]:
    return [stat.uri.relative_to(root) for stat in root.list(recursive)]


def test_what_is_written_is_read(root: URI) -> None:
    file = root / "folder" / "file.bin"
    file.write_bytes(b"first")
    file.write_bytes(b"second")
    assert file.read_bytes() == b"second"


def test_empty_files_are_files(root: URI) -> None:
    (root / "empty").write_bytes(b"")
    assert (root / "empty").read_bytes() == b""
    assert (root / "empty").exists()


@pytest.mark.parametrize("if_absent", [False, True])
def test_several_large_buffers_are_stored_one_after_another(root: URI, if_absent: bool) -> None:
    data = os.urandom(LARGE)
    view = memoryview(data)
    buffers: Sequence[memoryview] = [view[:1], view[1:1], view[1 : 2**25], view[2**25 :]]
    (root / "large").write_bytes(buffers, if_absent=if_absent)
    assert (root / "large").read_bytes() == data


@pytest.mark.parametrize("size", [4, LARGE])
def test_a_conditional_write_changes_nothing_where_a_file_is(root: URI, size: int) -> None:
    file = root / "file"
    file.write_bytes(b"old")
    with pytest.raises(AlreadyExists, match="file exists already"):
        file.write_bytes(bytes(size), if_absent=True)
    assert file.read_bytes() == b"old"


def test_one_of_sixteen_racing_conditional_writers_wins(root: URI) -> None:
    def write(racer: int) -> int | None:
        try:
            # All write the same bytes: even so, only one may believe that it was first
            (root / "lease").write_json("mine", if_absent=True)
        except AlreadyExists:
            return None
        return racer

    with ThreadPoolExecutor(16) as pool:
        winners = [racer for racer in pool.map(write, range(16)) if racer is not None]
    assert len(winners) == 1


def test_json_comes_back(root: URI) -> None:
    value = {"name": "digits", "loss": 0.25, "tags": ["ä", None]}
    (root / "run.json").write_json(value)
    assert (root / "run.json").read_json() == value


def test_a_file_that_is_not_json_is_named(root: URI) -> None:
    (root / "run.json").write_bytes(b'{"name": ')
    with pytest.raises(Damaged, match=r"run\.json is not JSON"):
        (root / "run.json").read_json()


def test_a_missing_file_is_named(root: URI) -> None:
    with pytest.raises(NotFound, match="root/absent"):
        (root / "absent").read_bytes()
    assert not (root / "absent").exists()
    assert (root / "absent").stat() is None


def test_a_folder_is_not_a_file(root: URI) -> None:
    (root / "folder" / "file").write_bytes(b"1")
    assert not (root / "folder").exists()
    with pytest.raises(NotFound):
        (root / "folder").read_bytes()


def test_stat_tells_size_and_age(root: URI) -> None:
    (root / "file").write_bytes(b"12345")
    stat = (root / "file").stat()
    assert stat is not None
    assert (stat.uri, stat.size) == (root / "file", 5)
    assert 0 <= stat.age_s < 60


def test_listing_is_sorted_and_stays_inside_the_folder(root: URI) -> None:
    for name in ["b", "a/2", "a/10", "a-b/1", "ab", "a/deep/er/1"]:
        (root / name).write_bytes(name.encode())
    assert names(root) == ["a-b/1", "a/10", "a/2", "a/deep/er/1", "ab", "b"]
    assert names(root, recursive=False) == ["ab", "b"]
    assert names(root / "a") == ["10", "2", "deep/er/1"]
    assert [folder.name for folder in root.folders()] == ["a", "a-b"]


def test_a_missing_folder_is_empty(root: URI) -> None:
    assert names(root / "absent") == []
    assert list((root / "absent").folders()) == []


def test_more_files_than_a_page_holds_are_listed_and_deleted(root: URI) -> None:
    expected = [f"{number:04}" for number in range(1_050)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: (root / name).write_bytes(b""), expected))
    assert names(root) == expected
    root.delete(recursive=True)
    assert names(root) == []


def test_odd_names_come_back(root: URI) -> None:
    for name in ["with space", "a+b=c&d", "100%", "ünï/日本", "#?*[x]", "'quote\""]:
        (root / name).write_bytes(name.encode())
        assert (root / name).read_bytes() == name.encode()
        assert name in names(root)


def test_deleting_is_fine_where_nothing_is(root: URI) -> None:
    (root / "absent").delete()
    (root / "absent").delete(recursive=True)
    (root / "file").write_bytes(b"1")
    (root / "file").delete()
    assert not (root / "file").exists()


def test_deleting_a_folder_leaves_its_neighbours(root: URI) -> None:
    for name in ["a/1", "a/b/2", "ab/3"]:
        (root / name).write_bytes(b"1")
    (root / "a").delete(recursive=True)
    assert names(root) == ["ab/3"]


def test_a_check_leaves_nothing_behind(root: URI) -> None:
    (root / "new").check_writable()
    assert names(root) == []


def test_many_threads_share_a_place(root: URI) -> None:
    def round_trip(number: int) -> bool:
        file = root / f"{number % 4}" / f"{number}"
        file.write_json(number)
        return bool(file.read_json() == number)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(64)))


def test_a_forked_process_can_read_and_write(root: URI) -> None:
    (root / "parent").write_bytes(b"1")
    child = os.fork()
    if child == 0:
        try:
            pickle.loads(pickle.dumps(root / "child")).write_bytes((root / "parent").read_bytes())
        except EksmlError:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert (root / "child").read_bytes() == b"1"
