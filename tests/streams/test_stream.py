"""``eksml.stream`` on Ray: what a call gives, how it ends, and how it goes on."""

from __future__ import annotations

import functools
import json
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from following import wait_until

import eksml.streams as streams
from eksml.errors import InvalidSpec, RunCancelled, RunFailed
from eksml.streams import checkpoints, stream

pytestmark = pytest.mark.usefixtures("embedded_ray")

TOTAL = 3000


def numbers(split, start):
    """Numbered events of seven keys, a hundred a second."""
    for number in range(start, TOTAL):
        yield {"key": f"k{number % 7}", "number": number, "at": number / 100}


def slowly(split, start):
    for event in numbers(split, start):
        if event["number"] % 20 == 0:
            time.sleep(0.02)
        yield event


def for_ever(split, start):
    number = start
    while True:
        yield [
            {"key": number // 10 % 5, "number": number + i, "at": number / 100} for i in range(10)
        ]
        number += 10
        time.sleep(0.005)


def sums(source):
    return (
        source.with_time("at")
        .key_by("key")
        .window(streams.tumbling("5s"), {"total": ("number", "sum"), "events": "count"})
    )


wait_for = functools.partial(wait_until, timeout_s=60)


def read(folder):
    table = pq.read_table(folder)
    return sorted(table.to_pylist(), key=lambda row: (row["window_start"], row["key"]))


@pytest.fixture(scope="module")
def undisturbed(embedded_ray, tmp_path_factory):
    """What one worker gives of three splits, with nothing happening to it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    graph = sums(streams.generator(numbers, splits=3)).to(streams.files(folder / "out"))
    run = stream(graph, storage=folder)
    assert run.result()["steps"]["window"]["events_in"] == 3 * TOTAL
    return read(folder / "out")


def test_windows_of_numbered_events_hold_each_of_them_once(undisturbed):
    assert sum(row["events"] for row in undisturbed) == 3 * TOTAL
    assert sum(row["total"] for row in undisturbed) == 3 * sum(range(TOTAL))
    assert len(undisturbed) == 6 * 7


def test_more_workers_give_the_same(undisturbed, tmp_path):
    graph = sums(streams.generator(numbers, splits=3)).to(streams.files(tmp_path / "out"))
    stream(graph, storage=tmp_path, parallelism=2, checkpoint_every_s=0.3)
    assert read(tmp_path / "out") == undisturbed


def test_a_stopped_stream_goes_on_with_another_number_of_workers(undisturbed, tmp_path):
    graph = sums(streams.generator(slowly, splits=3)).to(streams.files(tmp_path / "out"))
    call = {"storage": tmp_path, "name": "numbers", "checkpoint_every_s": 0.2}
    run = stream(graph, parallelism=2, wait=False, **call)
    wait_for(lambda: run.checkpoints() and (tmp_path / "out").exists(), run)
    run.cancel()
    assert run.state == "cancelled"
    some = read(tmp_path / "out")
    assert 0 < len(some) < len(undisturbed)
    assert stream(graph, parallelism=3, **call).state == "succeeded"
    assert read(tmp_path / "out") == undisturbed


def test_a_running_stream_goes_from_two_workers_to_four_to_one_and_keeps_its_state(
    undisturbed, tmp_path
):
    graph = sums(streams.generator(slowly, splits=3)).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, parallelism=2, checkpoint_every_s=0.2, wait=False)
    for workers in (4, 1):
        before = len(run.checkpoints()) and checkpoints.newest(run.uri)["epoch"]
        wait_for(lambda before=before: holds_state(run, before), run)
        streams.rescale(run, workers)
        assert run.state == "running"
        assert checkpoints.newest(run.uri)["ended"] is False
    run.wait(progress=False)
    assert read(tmp_path / "out") == undisturbed
    assert run.record.restarts == 0
    assert run.record.spec["job"]["parallelism"] == 1  # a new driver keeps to it


def holds_state(run, after) -> bool:
    """Whether a checkpoint later than ``after`` holds state of windows that are open."""
    meta = checkpoints.newest(run.uri)
    return meta is not None and meta["epoch"] > after and bool(meta["state"].get("window"))


def test_a_generator_that_has_nothing_at_present_holds_nothing_up(tmp_path):
    def now_and_then(split, start):
        for number in range(start, 20):
            yield []
            yield pa.table({"number": [number]}).slice(0, number % 2)
            yield {"number": number}

    graph = streams.generator(now_and_then).with_time("number").to(streams.files(tmp_path / "out"))
    assert stream(graph, storage=tmp_path).state == "succeeded"
    assert pq.read_table(tmp_path / "out").num_rows == 30


def test_a_paused_stream_reads_nothing_until_it_is_resumed(tmp_path):
    graph = streams.generator(for_ever).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, checkpoint_every_s=0.2, wait=False)
    wait_for(run.checkpoints, run)
    streams.pause(run)
    count = pq.read_table(tmp_path / "out").num_rows
    time.sleep(1)
    assert pq.read_table(tmp_path / "out").num_rows == count
    streams.resume(run)
    wait_for(lambda: pq.read_table(tmp_path / "out").num_rows > count, run)
    streams.drain(run)
    assert run.state == "succeeded"
    table = pq.read_table(tmp_path / "out")
    assert sorted(table.column("number").to_pylist()) == list(range(table.num_rows))


def test_a_drained_stream_ends_its_windows_and_succeeds(tmp_path):
    graph = sums(streams.generator(for_ever)).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, checkpoint_every_s=0.2, wait=False)
    wait_for(run.checkpoints, run)
    streams.drain(run)
    assert run.state == "succeeded"
    rows = read(tmp_path / "out")
    events = sum(row["events"] for row in rows)
    assert sum(row["total"] for row in rows) == sum(range(events)) > 0


def test_a_new_graph_begins_from_the_savepoint_of_an_old_one(tmp_path):
    def count(source, out):
        return source.key_by("key").reduce({"n": "count"}, name="count").to(out)

    graph = count(streams.generator(for_ever, name="numbers"), streams.files(tmp_path / "first"))
    run = stream(graph, storage=tmp_path, name="old", checkpoint_every_s=0.2, wait=False)
    wait_for(run.checkpoints, run)
    place = streams.savepoint(run)
    run.cancel()

    better = streams.generator(for_ever, name="numbers").filter(lambda event: event["key"] != 4)
    graph = count(better, streams.files(tmp_path / "out"))
    run = stream(
        graph,
        storage=tmp_path,
        name="new",
        savepoint=place,
        parallelism=2,
        checkpoint_every_s=0.2,
        wait=False,
    )
    wait_for(run.checkpoints, run)
    streams.drain(run)
    new = pq.read_table(tmp_path / "out").to_pylist()
    first = min(row["number"] for row in new)
    assert first > 0
    for row in new:
        assert row["key"] != 4
        assert row["n"] == row["number"] // 10 // 5 * 10 + row["number"] % 10 + 1


def test_a_graph_that_lacks_a_step_with_state_is_refused(tmp_path):
    source = streams.generator(for_ever)
    graph = source.key_by("key").reduce({"n": "count"}).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, name="numbers", checkpoint_every_s=0.2, wait=False)
    wait_for(run.checkpoints, run)
    run.cancel()
    graph = source.key_by("key").reduce({"n": "count"}, name="other").to(streams.files(tmp_path))
    with pytest.raises(InvalidSpec, match="has state of a step 'reduce'"):
        stream(graph, storage=tmp_path, name="numbers")


# Poison events


def divide(event):
    return {"number": event["number"], "share": 10 / event["number"]}


def test_a_failing_function_ends_the_run_with_its_own_traceback(tmp_path):
    graph = (
        streams.items([{"number": n} for n in (2, 1, 0)])
        .map(divide)
        .to(streams.files(tmp_path / "out"))
    )
    with pytest.raises(RunFailed) as caught:
        stream(graph, storage=tmp_path)
    text = str(caught.value)
    assert text.index("10 / event") < text.index("ZeroDivisionError")
    assert text.startswith("Traceback")
    assert "in divide" in text.split("File")[1]
    assert text.count("Traceback") == 1


def talk(event):
    print(f"seen {event['number']}")
    return event


def test_what_functions_print_is_in_the_logs(tmp_path):
    graph = (
        streams.items([{"number": n} for n in range(5)])
        .map(talk)
        .to(streams.files(tmp_path / "out"))
    )
    run = stream(graph, storage=tmp_path)
    assert [line for line in run.logs() if "seen" in line] == [f"seen {n}" for n in range(5)]


def test_poison_events_go_to_the_dead_letters_with_the_reason(tmp_path):
    def decode(event):
        return {"number": int(event["text"])}

    events = [{"text": str(n) if n % 10 else "poison"} for n in range(100)]
    graph = streams.items(events).map(decode).key_by("number").to(streams.files(tmp_path / "out"))
    run = stream(
        graph,
        storage=tmp_path,
        parallelism=2,
        tries=2,
        dead_letters=streams.files(tmp_path / "dead", format="jsonl"),
    )
    letters = [
        json.loads(line) for file in (tmp_path / "dead").glob("*.jsonl") for line in file.open()
    ]
    assert len(letters) == 10
    assert {letter["step"] for letter in letters} == {"map"}
    assert {letter["tries"] for letter in letters} == {2}
    assert {letter["error"] for letter in letters} == {"ValueError"}
    assert json.loads(letters[0]["event"]) == {"text": "poison"}
    assert pq.read_table(tmp_path / "out").num_rows == 90
    assert run.result()["steps"]["map"]["dead"] == 10


# Files


def test_files_that_come_later_are_read_too(tmp_path):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "a.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    graph = streams.files(inbox, format="jsonl", follow=True).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, checkpoint_every_s=0.2, wait=False)
    wait_for(lambda: (tmp_path / "out").exists(), run)
    (inbox / "b.jsonl").write_text('{"n": 3}\n')
    with (inbox / "a.jsonl").open("a") as file:
        file.write('{"n": 4}\n{"n": ')
    out = tmp_path / "out"
    wait_for(lambda: pq.read_table(out).num_rows == 4, run)
    streams.drain(run)
    assert sorted(pq.read_table(out).column("n").to_pylist()) == [1, 2, 3, 4]


# What a model answers, and calls that wait


class Slow:
    """A model that says in which process it was made."""

    def __init__(self):
        import os

        self.pid = os.getpid()

    def __call__(self, columns):
        return {
            "number": columns["number"],
            "size": [len(columns["number"])] * len(columns["number"]),
            "pid": [self.pid] * len(columns["number"]),
        }


def test_a_model_gets_micro_batches_in_actors_of_its_own(tmp_path):
    graph = (
        streams.items([{"number": n} for n in range(1000)])
        .infer(Slow, batch=64, replicas=2)
        .to(streams.files(tmp_path / "out"))
    )
    stream(graph, storage=tmp_path)
    rows = pq.read_table(tmp_path / "out").to_pandas()
    assert list(rows.number) == list(range(1000))
    assert rows["size"].max() == 64
    assert rows.pid.nunique() == 2


async def look_up(event):
    import asyncio

    await asyncio.sleep(0.05)
    return {**event, "name": f"user {event['number']}"}


def test_asynchronous_calls_run_side_by_side(tmp_path):
    graph = (
        streams.items([{"number": n} for n in range(200)])
        .enrich(look_up, concurrency=100)
        .to(streams.files(tmp_path / "out"))
    )
    stream(graph, storage=tmp_path)
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["name"] for row in rows] == [f"user {n}" for n in range(200)]


def test_another_process_sees_how_a_stream_stands(tmp_path):
    graph = sums(streams.generator(for_ever)).to(streams.files(tmp_path / "out"))
    run = stream(graph, storage=tmp_path, checkpoint_every_s=0.2, wait=False)
    status = run.uri / "status.json"
    wait_for(lambda: status.exists() and status.read_json()["checkpoint"], run)
    told = status.read_json()
    assert set(told["steps"]) == {"generator", "with_time", "key_by", "window", "to_files"}
    assert told["steps"]["generator"]["events_out"] > 0
    assert told["checkpoint"]["bytes"] > 0
    assert "flowchart" in (run.uri / "graph.mmd").read_bytes().decode()
    run.cancel()
    with pytest.raises(RunCancelled):
        run.wait(progress=False)


def test_a_stream_that_is_waited_for_can_be_stopped_from_elsewhere(tmp_path):
    graph = streams.generator(for_ever).to(streams.files(tmp_path / "out"))

    def stop():
        import eksml

        run = eksml.get_run("mine", storage=tmp_path)
        while not run.checkpoints():
            time.sleep(0.1)
        run.cancel()

    def later():
        while not (tmp_path / "mine" / "run.json").exists():
            time.sleep(0.1)
        stop()

    thread = threading.Thread(target=later)
    thread.start()
    with pytest.raises(RunCancelled):
        stream(graph, storage=tmp_path, name="mine", checkpoint_every_s=0.2)
    thread.join()
