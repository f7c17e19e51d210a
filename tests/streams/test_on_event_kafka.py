"""``eksml.on_event`` on a topic of Kafka, on a real broker: each message once in effect."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter

import pytest
from following import results, wait_until, workers

import eksml.streams as streams
from eksml.errors import InvalidSpec, NotFound, RunFailed, StorageUnavailable
from eksml.streams import on_event
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.requests.topic import Topic
from eksml.testing import KafkaBroker


@pytest.fixture(scope="module")
def broker():
    with KafkaBroker() as server:
        yield server


def produce(broker, topic, events, partitions=1, **settings):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": broker.servers, **settings})
    if settings:
        producer.init_transactions()
        producer.begin_transaction()
    for number, event in enumerate(events):
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        producer.produce(topic, value, partition=number % partitions)
    if settings:
        producer.commit_transaction()
    producer.flush()


def committed(broker, group, topic, partitions=1):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker.servers, "group.id": group})
    places = [TopicPartition(topic, number) for number in range(partitions)]
    found = [place.offset for place in consumer.committed(places, 10)]
    consumer.close()
    return found


def texts(broker, topic):
    """Every record that the topic holds."""

    async def read():
        from eksml.streams.sources.base import Place

        reader = await Kafka(topic, broker.servers, values="bytes", bounded=True).reader(
            Place("test", 0, 1, {})
        )
        found = []
        while reader._left():
            got = await reader.read(0.1)
            found += got.batch.column("value").to_pylist() if got else []
        await reader.close()
        return found

    return asyncio.run(read())


def taken(topic, count):
    """The next messages, when they are there."""
    found, end_s = [], time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < end_s, f"{len(found)} of {count} messages came"
        got = topic.next()
        found += [got] if got else []
        time.sleep(0 if got else 0.01)
    return found


# The topic as a queue, without Ray


def test_offsets_are_committed_up_to_the_first_message_that_is_not_done(broker):
    broker.make_topic("prefix")
    produce(broker, "prefix", [{"n": n} for n in range(6)])
    source = Kafka("prefix", broker.servers)
    topic = Topic(source, "one", 10)
    places = [place for place, _ in taken(topic, 6)]
    for index in (0, 1, 3, 4):
        topic.done(places[index])
    topic.close()
    assert committed(broker, "one", "prefix") == [2]
    again = Topic(source, "one", 10)
    assert [json.loads(message.body)["n"] for _, message in taken(again, 4)] == [2, 3, 4, 5]
    again.close()


def test_a_message_that_comes_again_says_how_often_it_has_come(broker):
    broker.make_topic("again")
    produce(broker, "again", [{"n": 0}])
    topic = Topic(Kafka("again", broker.servers), "two", 10)
    [(place, message)] = taken(topic, 1)
    topic.again(place, message, counts=True)
    [(place, second)] = taken(topic, 1)
    topic.again(place, second, counts=False)  # nobody was to blame
    [(place, third)] = taken(topic, 1)
    assert [each.receives for each in (message, second, third)] == [1, 2, 2]
    assert len({message.id, second.id, third.id}) == 1
    topic.close()


def test_what_waits_is_the_lag_and_nothing_once_all_is_read(broker, monkeypatch):
    broker.make_topic("lag", 2)
    produce(broker, "lag", [{"n": n} for n in range(30)], 2, **{"transactional.id": "t"})
    monkeypatch.setattr("eksml.streams.requests.topic._ASK_S", 0)
    topic = Topic(Kafka("lag", broker.servers), "three", 4)
    taken(topic, 10)
    assert 20 <= topic.waiting() <= 22
    taken(topic, 20)
    end_s = time.monotonic() + 10
    while topic.waiting():  # ends of transactions have offsets, and ask for nothing
        assert time.monotonic() < end_s
        time.sleep(0.05)
    topic.close()


def test_latest_means_what_comes_after_the_first_start(broker):
    broker.make_topic("latest")
    produce(broker, "latest", [{"n": 0}])
    source = Kafka("latest", broker.servers, start="latest")
    Topic(source, "four", 10).close()
    produce(broker, "latest", [{"n": 1}])
    topic = Topic(source, "four", 10)
    assert [json.loads(message.body) for _, message in taken(topic, 1)] == [{"n": 1}]
    topic.close()


# On Ray


def leaving_traces(folder):
    """Takes a second; each start of work leaves a trace."""

    def handle(event, job):
        (folder / f"{event['n']}-{job.attempt}-{os.getpid()}").touch()
        for step in range(job.saved or 0, 4):
            time.sleep(0.3)
            job.save(step + 1)
        return event["n"] * 10

    return handle


@pytest.mark.long
def test_killed_workers_lose_no_message_of_a_topic_and_double_none(embedded_ray, broker, tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()
    broker.make_topic("uploads", 2)
    produce(broker, "uploads", [{"n": n} for n in range(9)], 2)
    call = {"scale": (0, 3), "idle_s": 1, "storage": tmp_path, "name": "work", "wait": False}
    source = streams.kafka("uploads", broker.servers)
    run = on_event(source, leaving_traces(traces), **call)
    assert workers() == []
    wait_until(lambda: len(list(traces.iterdir())) >= 3, run)  # more than there are partitions
    victims = workers()[:2]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(results(run)) >= 5, run)
    run.cancel()  # and the driver goes, too
    run = on_event(source, leaving_traces(traces), **call)
    wait_until(lambda: len(results(run)) == 9, run)
    assert sorted((r["event"]["n"], r["result"]) for r in results(run)) == [
        (n, n * 10) for n in range(9)
    ]
    wait_until(lambda: workers() == [] and run.metrics() is not None, run)  # and back to none
    wait_until(lambda: sum(committed(broker, "eksml-work", "uploads", 2)) == 9, run)
    run.cancel()
    starts = Counter(trace.name.partition("-")[0] for trace in traces.iterdir())
    finished = Counter(result["event"]["n"] for result in results(run))
    assert set(finished.values()) == {1}
    assert sum(starts.values()) <= 9 + 2 + 3  # two were killed, and three at work when it ended


@pytest.mark.long
def test_poison_goes_to_a_topic_of_dead_letters_and_holds_nobody_up(embedded_ray, broker, tmp_path):
    for name in ("mixed", "letters"):
        broker.make_topic(name)

    def handle(event):
        if event["n"] == 1:
            raise ValueError("cannot be read")
        if event["n"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return event["n"]

    produce(broker, "mixed", [{"n": 0}, {"n": 1}, {"n": 2}, b"{broken", b"", {"n": 3}, {"n": 4}])
    run = on_event(
        streams.kafka("mixed", broker.servers, group="poison"),
        handle,
        scale=(1, 2),
        receives=2,
        dead_letters=streams.kafka("letters", broker.servers),
        storage=tmp_path,
        wait=False,
    )
    wait_until(lambda: len(list((run.uri / "dead").list())) == 3, run)
    wait_until(lambda: committed(broker, "poison", "mixed") == [7], run)
    assert sorted(result["result"] for result in results(run)) == [0, 3, 4]
    letters = {s.uri.read_json()["body"]: s.uri.read_json() for s in (run.uri / "dead").list()}
    assert letters['{"n": 1}']["message"] == "cannot be read"
    assert letters['{"n": 2}']["error"] == "eksml.errors.WorkerDied"
    assert {letter["receives"] for letter in letters.values()} == {2}
    assert sorted(texts(broker, "letters")) == [b'{"n": 1}', b'{"n": 2}', b"{broken"]
    run.cancel()


class Broken:
    """A handler that cannot be made."""

    def __init__(self):
        raise ValueError("the model is not there")

    def __call__(self, event):
        return None


@pytest.mark.long
def test_a_handler_that_cannot_be_made_ends_the_run_with_its_error(embedded_ray, broker, tmp_path):
    broker.make_topic("broken")
    produce(broker, "broken", [{"n": 0}])
    with pytest.raises(RunFailed, match=r"(?s)the model is not there.*5 workers in a row"):
        on_event(streams.kafka("broken", broker.servers), Broken, scale=(0, 2), storage=tmp_path)


def test_a_topic_that_is_not_there_is_told_before_anything_starts(broker, tmp_path):
    with pytest.raises(NotFound, match="no topic 'nowhere'"):
        on_event(streams.kafka("nowhere", broker.servers), len, storage=tmp_path)
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:1"):
        on_event(streams.kafka("nowhere", "127.0.0.1:1"), len, storage=tmp_path)


def test_what_requests_cannot_do_with_a_topic_is_told_at_once(tmp_path):
    source = streams.kafka("events", "", values="bytes", bounded=True)
    with pytest.raises(InvalidSpec) as caught:
        on_event(source, len, dead_letters=streams.nats("a", "b"), storage=tmp_path)
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"source.servers", "source.values", "source.bounded", "dead_letters"}
