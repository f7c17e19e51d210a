"""Streams beside the bare peer: keyed state and windows beside Bytewax, in one run; and costs.

    python benchmarks/stream.py                  every case
    python benchmarks/stream.py --only latency   one of them
    python benchmarks/stream.py --quick          keyed state only, in a minute

The costs (stream_costs.py) are Nexmark's queries, checkpoints, latency, inference and actor calls.
Beside Bytewax, both sides get the same numbered events in memory, on the same cores, one worker
each, and keep state that a checkpoint (ours each second; Bytewax's recovery is off, as in its own
benchmarks) could hold. Each round runs one after the other in the order A B B A. Each figure is one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stream_costs import COSTS, cost
from stream_figures import beside

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
    for name in wanted:
        if name in CASES:
            compare(name, rounds)
        else:
            cost(name, rounds)


def compare(case: str, rounds: int) -> None:
    """Run both sides of one case in turn and tell their speeds, by the clock and by CPU time."""
    found: dict[str, list[dict[str, float]]] = {"eksml": [], "bytewax": []}
    for number in range(rounds):
        for side in ("eksml", "bytewax") if number % 2 == 0 else ("bytewax", "eksml"):
            found[side].append(measured(side, case))
    wall, cpu = (
        [[each[clock] for each in found[side]] for side in found] for clock in ("wall", "cpu")
    )
    ours, peer = (statistics.median(speeds) for speeds in cpu)
    beside(f"stream {case}, beside Bytewax", *wall, "events/s", cpu_ratio=ours / peer)


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
