"""A model that writes down every row that it computes, and the helpers of the tests around it.

Imported by tests and by the scripts that they start.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from eksml.storage import URI, arrow_filesystem


class Counted:
    """Squares ``n``. Every row it computes is a line in a file of its process in ``notes``."""

    def __init__(self, notes: str, pause_s: float = 0.0, fail: tuple[int, ...] = ()) -> None:
        self.notes = Path(notes)
        self.pause_s = pause_s
        self.fail = set(fail)
        self.notes.mkdir(parents=True, exist_ok=True)
        with (self.notes / f"{os.getpid()}.pid").open("a") as file:
            file.write("loaded\n")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        time.sleep(self.pause_s)
        n = batch["n"]
        if bad := self.fail & set(n.tolist()):
            raise ValueError(f"{min(bad)} is a bad number")
        with (self.notes / f"{os.getpid()}.rows").open("a") as file:
            file.write("".join(f"{value}\n" for value in n))
        return {"square": n * n}


def computed(notes: Path) -> Counter[int]:
    """How often each row was computed."""
    found: Counter[int] = Counter()
    for file in notes.glob("*.rows"):
        found.update(int(line) for line in file.read_text().split())
    return found


def pids(notes: Path) -> list[int]:
    """Of the workers that still live."""
    found = [int(file.stem) for file in notes.glob("*.pid")]
    return [pid for pid in found if Path(f"/proc/{pid}").exists()]


def write_input(folder: URI, rows: int, files: int = 4) -> None:
    """Numbers 0 … rows-1 and a text each, over some Parquet files."""
    path, filesystem = arrow_filesystem(folder)
    filesystem.create_dir(path, recursive=True)
    each = -(-rows // files)
    for index in range(files):
        n = list(range(index * each, min((index + 1) * each, rows)))
        table = pa.table({"n": pa.array(n, pa.int64()), "text": [f"row {value}" for value in n]})
        pq.write_table(table, f"{path}/{index}.parquet", filesystem=filesystem, row_group_size=100)


def read_output(folder: URI) -> pa.Table:
    """All rows of the output, as any reader of Parquet sees them, in the order of ``n``."""
    path, filesystem = arrow_filesystem(folder)
    return ds.dataset(path, filesystem=filesystem).to_table().sort_by("n")
