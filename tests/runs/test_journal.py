"""Journals: appending to stores that cannot append, and reading what killed writers left."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import Damaged, StorageError
from eksml.runs import journal as journal_module
from eksml.runs.journal import Journal, source_name
from eksml.runs.tail import Entry, Tail, metric_rows, parse, read, text_lines
from eksml.storage import URI

KILLS = 4
FLUSH_S = 30.0

WRITER = """
import itertools, sys
from eksml.runs.journal import Journal
from eksml.storage import URI
journal = Journal(URI.parse(sys.argv[1]), "a000001-i0000-rank0")
for step in itertools.count():
    journal.append({"step": step, "filler": "x" * 2000})
    if step % 50 == 0:
        journal.flush()
        print(step, flush=True)
"""


def records(folder: URI) -> list[dict[str, object]]:
    return [entry.record for entry in read(folder)]


def test_what_was_flushed_is_read_back_in_order(root: URI) -> None:
    with Journal(root / "metrics", source_name(1, 0, "rank0")) as journal:
        for step in range(500):
            journal.append({"step": step})
        journal.flush()
        assert [record["step"] for record in records(root / "metrics")] == list(range(500))
        journal.append({"step": 500})
    assert len(records(root / "metrics")) == 501


def test_a_writer_that_is_killed_loses_nothing_it_flushed_and_leaves_whole_lines(
    root: URI,
) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    for round_number in range(KILLS):
        folder = root / f"journal-{round_number}"
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        flushed = int(writer.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.4))
        writer.send_signal(signal.SIGKILL)
        flushed = max([flushed, *(int(line) for line in writer.stdout)])
        writer.wait()
        steps = [record["step"] for record in records(folder)]
        assert steps == list(range(len(steps)))
        assert len(steps) > flushed


def test_a_restarted_writer_with_the_same_name_goes_on_in_a_new_chunk(root: URI) -> None:
    for value in (1, 2, 3):
        with Journal(root / "events", "a000001-i0000-driver") as journal:
            journal.append({"value": value})
    assert [record["value"] for record in records(root / "events")] == [1, 2, 3]


def test_chunks_stay_about_a_mebibyte(root: URI) -> None:
    with Journal(root / "logs", "a000001-i0000-rank0") as journal:
        for _ in range(300):
            journal.append("y" * 10_000)
    sizes = [stat.size for stat in (root / "logs").list()]
    assert len(sizes) == 3
    assert max(sizes) < journal_module.CHUNK_BYTES + 20_000
    assert len(list(text_lines(read(root / "logs")))) == 300


def test_appending_does_not_wait_for_a_storage_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "held")  # a write to it blocks until somebody reads

    def hang(self: URI, data: object, *, if_absent: bool = False) -> None:
        (tmp_path / "held").open("wb").close()
        raise StorageError("cut off")

    monkeypatch.setattr(URI, "write_bytes", hang)
    journal = Journal(URI.parse(tmp_path / "j"), "a000001-i0000-rank0")
    for step in range(1000):
        journal.append({"step": step})
    with pytest.raises(StorageError, match="did not answer in time"):
        journal.flush(timeout_s=1.5)
    (tmp_path / "held").open("rb").close()
    with pytest.raises(StorageError):
        journal.close(timeout_s=0.1)


def test_a_storage_error_surfaces_at_flush_and_nothing_is_lost_once_it_is_back(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "folder"
    blocked.write_text("a file where the folder should be")
    journal = Journal(URI.parse(blocked), "a000001-i0000-rank0")
    journal.append({"step": 1})
    with pytest.raises(StorageError, match="rank0"):
        journal.flush()
    blocked.unlink()
    journal.append({"step": 2})
    journal.close(FLUSH_S)
    assert [record["step"] for record in records(URI.parse(blocked))] == [1, 2]


def test_memory_is_bounded_while_the_storage_is_away_and_the_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MAX_WAITING", 100)
    blocked = tmp_path / "folder"
    blocked.write_text("")
    journal = Journal(URI.parse(blocked), "a000001-i0000-rank0")
    for step in range(150):
        journal.append({"step": step})
    blocked.unlink()
    with pytest.raises(StorageError, match="50 records"):
        journal.flush()
    journal.close()
    assert len(records(URI.parse(blocked))) == 100


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_floats_come_back_bit_for_bit(value: float) -> None:
    encoded = journal_module._encode({"loss": value})
    (entry,) = parse(URI.parse("/x/a-0.jsonl"), "a", encoded, 0)
    back = entry.record["loss"]
    assert math.isnan(back) if math.isnan(value) else (back == value and str(back) == str(value))


def test_tensors_and_numpy_values_are_read_as_they_were_when_logged(tmp_path: Path) -> None:
    folder = URI.parse(tmp_path / "metrics")
    loss = torch.tensor(0.1, requires_grad=True)
    total = torch.zeros(())
    with Journal(folder, "a000001-i0000-rank0") as journal:
        for step in (1, 2):
            total += 1
            journal.append({"step": step, "loss": loss * step, "total": total})
        journal.append({"step": np.int64(3), "loss": np.float32(0.1), "grid": np.eye(2)})
    first, second, third = records(folder)
    assert (first["total"], second["total"]) == (1.0, 2.0)
    assert first["loss"] == torch.tensor(0.1).item()
    assert third == {"step": 3, "loss": float(np.float32(0.1)), "grid": [[1.0, 0.0], [0.0, 1.0]]}


def test_a_tail_gives_only_what_is_new(root: URI) -> None:
    tail = Tail(root / "logs")
    assert tail.new() == []
    with Journal(root / "logs", "a000001-i0000-rank0") as journal:
        journal.append("one")
        journal.flush()
        assert [entry.record["text"] for entry in tail.new()] == ["one"]
        assert tail.new() == []
        journal.append("two")
        journal.append("drei ☃\u2028 in one line")
    assert [entry.record["text"] for entry in tail.new()] == ["two", "drei ☃\u2028 in one line"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a000001-i0000-rank0-000000.jsonl").write_bytes(b'{"step": 1}\n{"step": \n')
    with pytest.raises(Damaged, match=r"000000\.jsonl line 2"):
        read(URI.parse(tmp_path))


def test_of_a_step_that_was_logged_again_the_latest_source_counts() -> None:
    entries = [
        Entry("a000001-i0001-rank0", {"step": 3, "loss": 0.33}),
        Entry("a000001-i0000-rank0", {"step": 2, "loss": 9.0, "old": 1}),
        Entry("a000001-i0001-rank0", {"step": 2, "loss": 0.5}),
        Entry("a000001-i0001-rank0", {"step": 2, "accuracy": 0.9}),
        Entry("a000001-i0000-rank0", {"step": 1, "loss": 1.0}),
    ]
    assert metric_rows(entries) == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5, "accuracy": 0.9},
        {"step": 3, "loss": 0.33},
    ]


def test_sources_sort_by_attempt_then_incarnation() -> None:
    names = [source_name(a, i, "rank0") for a in (1, 2, 10) for i in (0, 3, 11)]
    assert names == sorted(names)
