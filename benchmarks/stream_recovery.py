"""How long a stream is silent when a task is killed, by the size of its state.

    python benchmarks/stream_recovery.py                             sums by key, in columns
    python benchmarks/stream_recovery.py --keys 1000000 --text 1000  a gigabyte, in dictionaries

The stream is killed with SIGKILL again and again. Told are the seconds from each kill to the first
output after it, what the state weighs in storage, and for how long events stood still for a
checkpoint: in the median, while they came slowly, and at most, while the state was filled.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stream_figures import alone

import eksml.streams as streams
from eksml.runs.connect import connect
from eksml.streams import checkpoints

CHUNK, FEW = 10_000, 100


def events(keys: int) -> Callable[[int, int], Iterator[Any]]:
    """Each key once, fast; then all of them again and again, slowly."""

    def generate(split: int, start: int) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        number = start
        while True:
            size = CHUNK if number < keys else FEW
            numbers = np.arange(number, number + size)
            yield pa.table({"key": numbers * 7919 % keys, "amount": numbers})
            number += size
            if size == FEW:
                time.sleep(0.01)

    return generate


def remembering(length: int) -> Callable[..., Iterator[Any]]:
    """Keeps a text of ``length`` characters for each key, that cannot be compressed."""

    def remember(event: dict[str, Any], state: dict[str, Any], timing: Any) -> Iterator[Any]:
        if not state:
            state["text"] = hashlib.shake_128(str(event["key"]).encode()).hexdigest(length // 2)
        state["events"] = state.get("events", 0) + 1
        yield {"amount": event["amount"]}

    return remember


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--text", type=int, default=0, help="characters for each key")
    parser.add_argument("--kills", type=int, default=5)
    given = parser.parse_args()
    connect(num_cpus=4)
    # Tasks may write a last part of their state while the folder goes
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder, "output")

        def note(columns: dict[str, Any]) -> None:
            output.write_text(f"{os.getpid()} {int(columns['amount'].max())}")

        keyed = streams.generator(events(given.keys)).key_by("key")
        if given.text:
            results = keyed.process(remembering(given.text))
        else:
            results = keyed.reduce({"total": ("amount", "sum"), "events": "count"})
        graph = results.to(streams.call(note, columns=True))
        run = streams.stream(graph, storage=folder, checkpoint_every_s=1.0, wait=False)
        silences = [silence(run, output, given.keys) for _ in range(given.kills)]
        told, size = run.metrics(), state_bytes(run)
        run.cancel()
    alone(
        f"stream recovery, kill to first output, {given.keys:,} keys",
        silences,
        "s",
        state_mb=size / 1e6,
        stopped_ms=told.checkpoint_stopped_s.tail(2 * given.kills).median() * 1000,
        most_stopped_ms=told.checkpoint_stopped_s.max() * 1000,
        checkpoint_s=told.checkpoint_seconds.tail(2 * given.kills).median(),
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


def state_bytes(run: Any) -> int:
    """What the parts of the newest checkpoint weigh."""
    meta = checkpoints.newest(run.uri)
    assert meta is not None
    chains = [chain for chains in meta["state"].values() for chain in chains]
    return sum(part["size"] for chain in chains for part in chain["parts"])


if __name__ == "__main__":
    main()
