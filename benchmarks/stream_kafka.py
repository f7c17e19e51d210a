"""Kafka → JSON → keyed window in event time → checkpoint, beside Quix Streams on the same broker.

    python benchmarks/stream_kafka.py --events 300000 --rounds 3

Both sides read the same topic from its beginning with one worker, sum amounts by key in tumbling
windows of ten seconds, and keep checkpoints: ours in storage, Quix's in its local store, without
the changelog that would make it durable. Rounds run A B B A.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stream_figures import beside

KEYS = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--servers", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side = {"eksml": eksml_side, "quix": quix_side}[given.side]
        print(json.dumps(side(given.servers, given.events)))
        return
    from eksml.testing import KafkaBroker

    speeds: dict[str, list[float]] = {"eksml": [], "quix": []}
    with KafkaBroker() as broker:
        fill(broker, given.events)
        for number in range(given.rounds):
            for side in ("eksml", "quix") if number % 2 == 0 else ("quix", "eksml"):
                speeds[side].append(measured(side, broker.servers, given.events))
    beside("stream Kafka windows, beside Quix Streams", *speeds.values(), "events/s")


def fill(broker: Any, count: int) -> None:
    """A topic of numbered JSON events, a thousand for each second of event time."""
    from confluent_kafka import Producer

    broker.make_topic("events", 1)
    producer = Producer({"bootstrap.servers": broker.servers, "linger.ms": 20})
    for number in range(count):
        event = {"key": f"k{number % KEYS}", "amount": number, "at": number}
        while True:
            try:
                producer.produce("events", json.dumps(event), key=event["key"])
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def measured(side: str, servers: str, count: int) -> float:
    """Events a second of one side, in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--servers", servers]
    done = subprocess.run(
        [*command, "--events", str(count)], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def eksml_side(servers: str, count: int) -> float:
    """From the first micro-batch to the last window."""
    import eksml.streams as streams
    from eksml.runs.connect import connect

    connect(num_cpus=4)
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder, "clock")

        def note(columns: Any) -> Any:
            if not clock.exists():
                clock.write_text(f"{time.time()} {columns.num_rows}\n")
            return columns

        def done(columns: Any) -> None:
            with clock.open("a") as file:
                file.write(f"{time.time()} 0\n")

        graph = (
            streams.kafka("events", servers, bounded=True)
            .with_time("at", unit="ms")
            .map(note, columns="arrow")
            .key_by("key")
            .window(streams.tumbling("10s"), {"total": ("amount", "sum")})
            .to(streams.call(done, columns=True))
        )
        streams.stream(graph, storage=folder, checkpoint_every_s=1.0)
        lines = [line.split() for line in clock.read_text().splitlines()]
        return (count - int(lines[0][1])) / (float(lines[-1][0]) - float(lines[0][0]))


def quix_side(servers: str, count: int) -> float:
    """From the first event to the last."""
    from quixstreams import Application

    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        app = Application(
            broker_address=servers,
            consumer_group=f"quix-{time.time_ns()}",
            auto_offset_reset="earliest",
            commit_interval=1.0,
            state_dir=folder,
            loglevel="ERROR",
            use_changelog_topics=False,
            consumer_extra_config={"session.timeout.ms": 6000},
        )
        topic = app.topic("events", value_deserializer="json", timestamp_extractor=_at)
        for name in ("retention.ms", "retention.bytes"):  # this broker does not tell them
            topic.broker_config.extra_config.setdefault(name, "-1")
        frame = app.dataframe(topic)
        frame = frame.update(
            lambda event: times.append(time.time()) if _ends(event, count) else None
        )
        amounts = frame.apply(lambda event: event["amount"])
        amounts.tumbling_window(10_000).sum().final()
        app.run(count=count, timeout=10)
    return count / (times[-1] - times[0])


def _at(value: dict[str, Any], headers: Any, timestamp: float, kind: Any) -> int:
    return int(value["at"])


def _ends(event: dict[str, Any], count: int) -> bool:
    return event["amount"] in (0, count - 1)


if __name__ == "__main__":
    main()
