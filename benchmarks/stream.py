"""Streams beside the bare peer: keyed state and windows beside Bytewax, in one run; and costs.

    python benchmarks/stream.py                  every case
    python benchmarks/stream.py --only latency   one of them
    python benchmarks/stream.py --quick          keyed state only; the last line is JSON

The costs (stream_costs.py) are Nexmark's queries, checkpoints, latency, inference and actor calls.
Beside Bytewax, both sides get the same numbered events in memory, on the same cores, one worker
each, and keep state that a checkpoint (ours each second; Bytewax's recovery is off, as in its own
benchmarks) could hold. Each round runs one after the other in the order A B B A; what is told are
medians with their ranges, and as the null the ratio of two runs of the same side.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stream_costs import COSTS, cost

EVENTS = 1_000_000
KEYS = 1_000
CHUNK = 10_000
CASES = ("state", "state, event by event", "window")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="keyed state only, three rounds")
    parser.add_argument("--only", choices=[*CASES, *COSTS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(SIDES[given.side](given.case)))
        return
    rounds = 3 if given.quick else given.rounds
    wanted = CASES[:1] if given.quick else [given.only] if given.only else [*CASES, *COSTS]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    ratios = {case: compare(case, rounds) for case in CASES if case in wanted}
    for name in COSTS:
        if name in wanted:
            cost(name, rounds)
    if "state" in ratios:
        print(json.dumps({"metric": "keyed state, ours / Bytewax", "value": ratios["state"]}))


def compare(case: str, rounds: int) -> float:
    """Run both sides of one case and tell their speeds; returns the ratio of the medians."""
    found: dict[str, list[dict[str, float]]] = {"eksml": [], "bytewax": []}
    for number in range(rounds):
        for side in ("eksml", "bytewax") if number % 2 == 0 else ("bytewax", "eksml"):
            found[side].append(measured(side, case))
    ratios = {}
    for clock in ("wall", "cpu"):
        speeds = {side: [each[clock] / 1e6 for each in all_] for side, all_ in found.items()}
        for side, mine in speeds.items():
            told = f"{statistics.median(mine):6.2f} ({min(mine):.2f} to {max(mine):.2f})"
            print(f"{case:22} {side:8} M events a second of {clock:4} {told}")
        ours, peer = (statistics.median(mine) for mine in speeds.values())
        null = statistics.median(speeds["eksml"][::2]) / statistics.median(speeds["eksml"][1::2])
        ratios[clock] = round(ours / peer, 2)
        print(f"{case:22} ratio {ratios[clock]}, null {null:.2f}", flush=True)
    return ratios["wall"]


def measured(side: str, case: str) -> dict[str, float]:
    """Events a second of one side, in a process of its own, by the clock and by its CPU time."""
    command = [sys.executable, __file__, "--side", side, "--case", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def eksml_side(case: str) -> dict[str, float]:
    """map → filter → keyed state, or tumbling windows, with a checkpoint each second."""
    import eksml.streams as streams
    from eksml.runs.connect import connect

    connect(num_cpus=4)
    columns = case != "state, event by event"
    count = EVENTS * 10 if columns else EVENTS
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder, "clock")
        source = streams.generator(prepared(columns, count, clock))
        if case == "window":
            source = source.with_time("at")
        doubled = source.map(double_columns if columns else double, columns=columns)
        large = doubled.filter(large_columns if columns else is_large, columns=columns)
        keyed = large.key_by("key")
        total = {"total": ("amount", "sum")}
        if case == "window":
            results = keyed.window(streams.tumbling("10s"), total)
        else:
            results = keyed.reduce(total if columns else add)
        graph = results.to(streams.call(lambda events: note(clock), columns=columns))
        streams.stream(graph, storage=folder, checkpoint_every_s=1.0)
        began, *_, ended = [line.split() for line in clock.read_text().splitlines()]
        wall_s, cpu_s = (float(b) - float(a) for a, b in zip(began, ended, strict=True))
        return {"wall": count / wall_s, "cpu": count / cpu_s}


def prepared(columns: bool, count: int, clock: Path) -> Callable[[int, int], Iterator[Any]]:
    """A source whose events are all made before the clock starts."""

    def events(split: int, start: int) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        chunks: list[Any] = []
        for first in range(0, count, CHUNK):
            number = np.arange(first, first + CHUNK)
            if columns:
                chunks.append(
                    pa.table({"key": number % KEYS, "amount": number, "at": number / 1000})
                )
            else:
                chunks.append([{"key": n % KEYS, "amount": n} for n in number.tolist()])
        note(clock)
        yield from chunks

    return events


def note(clock: Path) -> None:
    """Write down what time it is, and how much CPU this process has used."""
    with clock.open("a") as file:
        file.write(f"{time.time()} {time.process_time()}\n")


def double(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "amount": event["amount"] * 2}


def double_columns(columns: dict[str, Any]) -> dict[str, Any]:
    return {**columns, "amount": columns["amount"] * 2}


def is_large(event: dict[str, Any]) -> bool:
    return bool(event["amount"] % 10 != 0)


def large_columns(columns: dict[str, Any]) -> Any:
    return columns["amount"] % 10 != 0


def add(state: dict[str, Any], event: dict[str, Any]) -> dict[str, Any]:
    return {"total": state.get("total", 0) + event["amount"]}


def bytewax_side(case: str) -> dict[str, float]:
    """The same in Bytewax: one worker, one Python object an event."""
    from datetime import UTC, datetime, timedelta

    import bytewax.operators as op
    import bytewax.operators.windowing as win
    from bytewax.dataflow import Dataflow
    from bytewax.operators.windowing import EventClock, TumblingWindower
    from bytewax.outputs import DynamicSink, StatelessSinkPartition
    from bytewax.testing import TestingSource, run_main

    class Nothing(StatelessSinkPartition):
        def write_batch(self, items):  # type: ignore[no-untyped-def]
            pass

    class Drop(DynamicSink):
        def build(self, step_id, worker_index, worker_count):  # type: ignore[no-untyped-def]
            return Nothing()

    events = [(str(n % KEYS), n) for n in range(EVENTS)]
    flow = Dataflow("bench")
    stream = op.input("in", flow, TestingSource(events, batch_size=CHUNK))
    stream = op.map("double", stream, lambda item: (item[0], item[1] * 2))
    stream = op.filter("large", stream, lambda item: item[1] % 10 != 0)
    if case == "window":
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        clock = EventClock(
            lambda amount: epoch + timedelta(milliseconds=amount / 2), timedelta(seconds=0)
        )
        windower = TumblingWindower(length=timedelta(seconds=10), align_to=epoch)
        folded = win.fold_window(
            "sum", stream, clock, windower, lambda: 0, lambda a, b: a + b, lambda a, b: a + b
        )
        results = folded.down
    else:

        def add(state, amount):  # type: ignore[no-untyped-def]
            state = (state or 0) + amount
            return state, (amount, state)

        results = op.stateful_map("sum", stream, add)
    op.output("out", results, Drop())
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run_main(flow)
    return {
        "wall": EVENTS / (time.perf_counter() - wall_s),
        "cpu": EVENTS / (time.process_time() - cpu_s),
    }


SIDES = {"eksml": eksml_side, "bytewax": bytewax_side}

if __name__ == "__main__":
    main()
