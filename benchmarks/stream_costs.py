"""What a stream costs: checkpoints, latency, calls of models, beside the plain way to do it."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from stream_figures import alone, beside
from stream_nexmark import EVENTS, FLINK, QUERIES

import eksml.streams as streams

KEYS, CHUNK = 1_000, 10_000
NEVER_S = 1e6
UNIT = "events/s"


class Spent(NamedTuple):
    """From when a graph's events are made to its last output."""

    wall_s: float
    cpu_s: float
    """Of the one task."""


def spent(graph_of: Callable[[Callable[[], None]], Any], **how: Any) -> Spent:
    """What a graph takes. ``graph_of(note)`` gives it before its sink; its source calls ``note``
    when it begins."""
    with tempfile.TemporaryDirectory() as folder:
        begun, ended = Path(folder, "begun"), Path(folder, "ended")
        graph = graph_of(lambda: note(begun)).to(streams.call(lambda _: note(ended), columns=True))
        streams.stream(graph, storage=folder, **{"checkpoint_every_s": 1.0, **how})
        first, last = (
            [float(word) for word in file.read_text().split()] for file in (begun, ended)
        )
        return Spent(last[0] - first[0], last[1] - first[1])


def timed(graph_of: Callable[[Callable[[], None]], Any]) -> float:
    """Seconds that a graph takes."""
    return spent(graph_of).wall_s


def note(file: Path) -> None:
    """Write down what time it is, and how much CPU this process has used."""
    file.write_text(f"{time.time()} {time.process_time()}")


def nexmark(rounds: int) -> None:
    """Queries 1, 5 and 8, and Flink's published numbers."""
    for name, query in QUERIES.items():
        count = EVENTS[name]
        speeds = [
            count / timed(lambda note, q=query, c=count: q(c, note))  # type: ignore[misc]
            for _ in range(rounds)
        ]
        beside(f"stream Nexmark {name}, beside a core of Flink's own", speeds, [FLINK[name]], UNIT)


def numbers(count: int, keys: int) -> Callable[[Callable[[], None]], Any]:
    """Keyed sums over numbered events, made before the clock starts."""

    def graph(note: Callable[[], None]) -> Any:
        def events(split: int, start: int) -> Iterator[Any]:
            import numpy as np
            import pyarrow as pa

            chunks = []
            for first in range(0, count, CHUNK):
                number = np.arange(first, first + CHUNK)
                chunks.append(pa.table({"key": number * 7919 % keys, "amount": number}))
            note()
            yield from chunks

        return streams.generator(events).key_by("key").reduce({"total": ("amount", "sum")})

    return graph


def checkpoints(rounds: int) -> None:
    """A checkpoint each second against none, and none against none as the null."""
    for keys, count in ((1_000, 20_000_000), (100_000, 10_000_000)):
        found: dict[str, list[Spent]] = {"each second": [], "none": [], "none again": []}
        for number in range(rounds):
            for name in found if number % 2 == 0 else reversed(found):
                every_s = 1.0 if name == "each second" else NEVER_S
                found[name].append(spent(numbers(count, keys), checkpoint_every_s=every_s))
        with_, without, again = found.values()
        beside(
            f"stream with a checkpoint each second, beside none, {keys:,} keys",
            [count / each.wall_s for each in with_],
            [count / each.wall_s for each in without],
            UNIT,
            null_percent=percent(again, without, "wall_s"),
            cost_percent=percent(with_, without, "wall_s"),
            cpu_percent=percent(with_, without, "cpu_s"),
            cpu_null_percent=percent(again, without, "cpu_s"),
        )


def percent(some: list[Spent], others: list[Spent], clock: str) -> float:
    """How much more the median of some is than that of others."""
    a, b = (statistics.median(getattr(each, clock) for each in all_) for all_ in (some, others))
    return 100 * (a / b - 1)


def latency(rounds: int) -> None:
    """From when events are made to when they come to the sink, at half of the greatest load."""
    size, seconds = 1_000, 15.0
    for workers in (1, 2):
        full = _latencies(NEVER_S, size, 6.0, workers)[1]
        found = [_latencies(full / 2, size, seconds, workers) for _ in range(rounds)]
        cuts = [statistics.quantiles(waits, n=1000) for waits, _ in found]
        alone(
            f"stream p99 latency at half load, {workers} workers",
            [each[989] for each in cuts],
            "ms",
            p50=statistics.median(each[499] for each in cuts),
            p999=statistics.median(each[998] for each in cuts),
            rate=statistics.median(rate for _, rate in found),
            full=full,
        )


def _latencies(rate: float, size: int, seconds: float, workers: int) -> tuple[list[float], float]:
    """Milliseconds of each micro-batch of ``size`` events, at ``rate`` events/s; and the rate."""

    def events(split: int, start: int) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        began_s, made = time.time(), 0
        while (now_s := time.time()) - began_s < seconds:
            if made * size / rate > now_s - began_s:
                yield []
                continue
            number = np.arange(made * size, (made + 1) * size)
            made += 1
            yield pa.table({"key": number % KEYS, "amount": number, "made": np.full(size, now_s)})

    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")

        def note(columns: dict[str, Any]) -> None:
            now_s = time.time()
            with notes.open("a") as file:
                wait_ms = (now_s - columns["made"].min()) * 1000
                file.write(f"{now_s} {wait_ms} {len(columns['made'])}\n")

        graph = streams.generator(events).key_by("key").reduce({"total": ("amount", "sum")})
        graph = graph.to(streams.call(note, columns=True))
        streams.stream(graph, storage=folder, checkpoint_every_s=1.0, parallelism=workers)
        rows = [[float(word) for word in line.split()] for line in notes.open()]
    rows.sort()
    warm = [row for row in rows if row[0] > rows[0][0] + 2]
    count = sum(row[2] for row in warm)
    return [row[1] for row in warm], count / (warm[-1][0] - warm[0][0])


class Model:
    """A small network, as a fraud model might be."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.network = torch.nn.Sequential(
            torch.nn.Linear(1, 128), torch.nn.ReLU(), torch.nn.Linear(128, 1)
        )

    def __call__(self, columns: dict[str, Any]) -> dict[str, Any]:
        import torch

        inputs = torch.as_tensor(columns["amount"], dtype=torch.float32).unsqueeze(1)
        with torch.inference_mode():
            return {**columns, "score": self.network(inputs).squeeze(1).numpy()}


def inference(rounds: int) -> None:
    """Micro-batches of 256 to a model, against a call for each event."""
    speeds: dict[int, list[float]] = {256: [], 1: []}
    for _ in range(rounds):
        for batch, count in ((256, 500_000), (1, 10_000)):

            def graph(note: Any, batch: int = batch, count: int = count) -> Any:
                return numbers(count, KEYS)(note).infer(Model, batch=batch)

            speeds[batch].append(count / timed(graph))
    beside("stream inference, micro-batches of 256 beside one call each", *speeds.values(), UNIT)


def actors(rounds: int) -> None:
    """Keyed sums in a stream, against a Ray actor that is called for each event."""
    import ray

    @ray.remote
    class Sums:
        def __init__(self) -> None:
            self.totals: dict[int, int] = {}

        def add(self, key: int, amount: int) -> int:
            self.totals[key] = total = self.totals.get(key, 0) + amount
            return total

    ours, peer = [], []
    for _ in range(rounds):
        ours.append(10_000_000 / timed(numbers(10_000_000, KEYS)))
        actor, count = Sums.remote(), 10_000
        ray.get(actor.add.remote(0, 0))
        began = time.perf_counter()
        for first in range(0, count, 1000):  # a thousand at once, so that no call waits for another
            ray.get([actor.add.remote(n % KEYS, n) for n in range(first, first + 1000)])
        peer.append(count / (time.perf_counter() - began))
    beside("stream keyed sums, beside an actor call for each event", ours, peer, UNIT)


COSTS: dict[str, Callable[[int], None]] = {
    "nexmark": nexmark,
    "checkpoints": checkpoints,
    "latency": latency,
    "inference": inference,
    "actors": actors,
}


def cost(name: str, rounds: int) -> None:
    """Measure one of them."""
    from eksml.runs.connect import connect

    connect(num_cpus=4)
    COSTS[name](rounds)
