"""How long a stream is silent when a task is killed, by the size of its state.

    python benchmarks/stream_recovery.py --keys 100000 --kills 5

A stream counts events of many keys and is killed with SIGKILL again and again. Told are the seconds
from each kill to the first output after it, what the state weighs in storage, and how long events
stood still for a checkpoint.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eksml.streams as streams
from eksml.runs.connect import connect

CHUNK = 10_000


def events(keys: int) -> Any:
    def generate(split: int, start: int) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        number = start
        while True:
            numbers = np.arange(number, number + CHUNK)
            yield pa.table({"key": numbers * 7919 % keys, "amount": numbers})
            number += CHUNK
            if number > 2 * keys:  # the state is there: now at a quiet pace
                time.sleep(0.02)

    return generate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    connect(num_cpus=4)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")

        def note(columns: dict[str, Any]) -> None:
            output.write_text(f"{os.getpid()} {int(columns['amount'].max())}")

        graph = (
            streams.generator(events(given.keys))
            .key_by("key")
            .reduce({"total": ("amount", "sum"), "events": "count"})
            .to(streams.call(note, columns=True))
        )
        run = streams.stream(graph, storage=folder, checkpoint_every_s=1.0, wait=False)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {given.keys:,} keys")
        silences = [silence(run, output, 2 * given.keys) for _ in range(given.kills)]
        run.cancel()
        told = run.metrics()
        size = sum(file.stat().st_size for file in (run.uri.path / "state").iterdir())
    print(f"state in storage {size / 1e6:,.0f} MB")
    print(f"events stood still for {told.checkpoint_stopped_s.median() * 1000:.0f} ms a checkpoint")
    print(
        f"kill to first output: median {statistics.median(silences):.2f} s "
        f"({min(silences):.2f} to {max(silences):.2f})"
    )


def silence(run: Any, output: Path, least: int) -> float:
    """Kill the task when its state is there and in a checkpoint; seconds until it speaks again."""
    while not output.exists() or int((output.read_text() or "0 0").split()[1]) < least:
        time.sleep(0.05)
    before = len(run.metrics())
    while len(run.metrics()) < before + 2:
        time.sleep(0.1)
    pid = int(output.read_text().split()[0])
    began = time.perf_counter()
    os.kill(pid, signal.SIGKILL)
    while (output.read_text() or f"{pid} 0").split()[0] == str(pid):
        time.sleep(0.01)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
