"""Find anomalies in sensor readings as they come: a reading far from what its sensor usually says.

    python jobs/stream_anomaly.py --readings 20000

The readings are made up here; in place of ``generator`` put ``streams.kafka("readings", servers)``.
Prints the anomalies that were found, and how many were hidden in the data.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import eksml.streams as streams

SENSORS = 8
EVERY = 500
"""One reading in so many is wrong."""


def readings(count: int) -> Any:
    """A day's wave for each sensor, some noise, and a jump now and then."""

    def generate(split: int, start: int) -> Any:
        for number in range(start, count):
            noise = random.Random(number).gauss(0, 0.3)
            jump = 8.0 if number % EVERY == EVERY - 1 else 0.0
            value = 20 + 5 * math.sin(number / 2000) + noise + jump
            yield {"sensor": number % SENSORS, "number": number, "value": value, "at": number / 10}

    return generate


def judge(event: dict[str, Any], state: dict[str, Any], timing: streams.Timing) -> Any:
    """How far the reading lies from the sensor's moving mean, in its moving deviations."""
    mean, variance = state.get("mean", event["value"]), state.get("variance", 1.0)
    distance = abs(event["value"] - mean) / math.sqrt(variance + 1e-9)
    if distance > 5 and state.get("seen", 0) > 50:
        yield {**event, "expected": round(mean, 2), "deviations": round(distance, 1)}
    else:  # what is out of line does not move the line
        state["mean"] = 0.95 * mean + 0.05 * event["value"]
        state["variance"] = 0.95 * variance + 0.05 * (event["value"] - mean) ** 2
    state["seen"] = state.get("seen", 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--readings", type=int, default=20_000)
    parser.add_argument("--out", default=tempfile.mkdtemp(prefix="anomalies-"))
    given = parser.parse_args()
    graph = (
        streams.generator(readings(given.readings))
        .with_time("at")
        .key_by("sensor")
        .process(judge)
        .to(streams.files(given.out, format="jsonl"))
    )
    streams.stream(graph, storage=Path(given.out) / "_runs")
    found = [line for file in sorted(Path(given.out).glob("*.jsonl")) for line in file.open()]
    print("".join(found[:5]), end="")
    print(f"{len(found)} anomalies found, {given.readings // EVERY} were hidden")


if __name__ == "__main__":
    main()
