"""``eksml.on_event``: each message is handled once in effect; workers come with the work."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from following import results, wait_until, workers

import eksml.streams as streams
from eksml.errors import AlreadyExists, Fenced, InvalidSpec, NotFound
from eksml.storage import URI
from eksml.streams import on_event
from eksml.streams.requests.events import requests_of
from eksml.streams.requests.ledger import Job
from eksml.streams.requests.scaling import Scaling
from eksml.testing import SqsServer

# Without Ray: what a message asks for, attempts, scaling


def notification(key, sequencer="01", name="ObjectCreated:Put"):
    item = {"key": key, "size": 3, "eTag": "x", "sequencer": sequencer}
    return {"Records": [{"eventName": name, "s3": {"bucket": {"name": "in"}, "object": item}}]}


def test_a_notification_of_s3_asks_for_one_object_by_its_plain_name():
    [request] = requests_of(json.dumps(notification("a+b%2Fc%C3%A9.jpg")), "m1")
    assert request.event["key"] == "a b/cé.jpg"
    assert request.event["bucket"] == "in"
    [again] = requests_of(json.dumps(notification("a+b%2Fc%C3%A9.jpg")), "m2")
    [newer] = requests_of(json.dumps(notification("a+b%2Fc%C3%A9.jpg", "02")), "m3")
    assert again.id == request.id != newer.id


def test_the_test_of_a_notification_asks_for_nothing():
    assert requests_of(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}), "m") == []


def test_a_later_attempt_goes_on_from_what_was_saved_and_fences_the_earlier_one(root):
    first = Job(root, "one").begin()
    first.save({"page": 3})
    second = Job(root, "one").begin()
    assert (first.attempt, second.attempt) == (1, 2)
    assert second.saved == {"page": 3}
    with pytest.raises(Fenced):
        first.save({"page": 4})
    assert second.finish({"result": "second"})
    assert not first.finish({"result": "first"})
    with pytest.raises(AlreadyExists):
        Job(root, "one").begin()


def test_attempts_of_which_nothing_was_heard_are_counted(root):
    Job(root, "one").begin()  # killed
    Job(root, "one").begin().end()  # failed, and said so
    third = Job(root, "one").begin()
    assert (third.attempt, third.vanished) == (3, 1)


def test_workers_follow_the_queue_from_none_to_the_most_and_back():
    scaling = Scaling(0, 5, idle_s=10)
    assert scaling.wanted(waiting=0, busy=0, workers=0, now_s=0) == 0
    assert scaling.wanted(waiting=3, busy=0, workers=0, now_s=1) == 3
    assert scaling.wanted(waiting=90, busy=3, workers=3, now_s=2) == 5
    assert scaling.wanted(waiting=0, busy=1, workers=5, now_s=3) == 5
    assert scaling.wanted(waiting=0, busy=1, workers=5, now_s=13) == 1
    assert scaling.wanted(waiting=0, busy=0, workers=1, now_s=30) == 0


def test_every_wrong_argument_is_told_at_once(tmp_path):
    with pytest.raises(InvalidSpec) as caught:
        on_event("uploads", 3, scale=(5, 2), receives=0, storage="ftp://x", name="a b")
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"source", "handler", "scale", "receives", "storage", "name"}


# On Ray and a queue


@pytest.fixture(scope="module")
def server():
    with SqsServer() as found:
        yield found


@pytest.fixture
def queue(server, monkeypatch, request):
    for name, value in server.env().items():
        monkeypatch.setenv(name, value)
    return server.make_queue(request.node.name[:60].replace("[", "_").replace("]", "_"))


class Slowly:
    """Takes longer than the message is hidden; each start of work leaves a trace."""

    def __init__(self, folder, env, seconds):
        os.environ.update(env)
        self.folder, self.seconds = Path(folder), seconds

    def __call__(self, event, job):
        (self.folder / f"{event['n']}-{job.attempt}-{os.getpid()}").touch()
        for step in range(job.saved or 0, 4):
            time.sleep(self.seconds / 4)
            job.save(step + 1)
        return {"n": event["n"], "from": job.saved or 0}


def handler(folder, env, seconds):
    """A class that knows its folder, as a class of a user's script would."""

    class Mine(Slowly):
        def __init__(self):
            super().__init__(folder, env, seconds)

    return Mine


@pytest.mark.long
def test_a_killed_worker_loses_no_request_and_doubles_none(embedded_ray, server, queue, tmp_path):
    traces = tmp_path / "traces"
    traces.mkdir()
    server.send(queue, *({"n": n} for n in range(4)))
    run = on_event(
        streams.sqs(queue, visibility_s=3),  # shorter than the work
        handler(traces, server.env(), 4),
        scale=(0, 2),
        idle_s=2,
        storage=tmp_path / "runs",
        wait=False,
    )
    assert workers() == []
    wait_until(lambda: len(list(traces.iterdir())) >= 2, run)
    os.kill(workers()[0], signal.SIGKILL)
    wait_until(lambda: len(results(run)) == 4, run)
    found = results(run)
    assert sorted(result["event"]["n"] for result in found) == list(range(4))
    # Only what the killed worker had was begun a second time
    assert sorted(result["attempt"] for result in found) == [1, 1, 1, 2]
    wait_until(lambda: workers() == [], run)  # and back to none
    run.cancel()


@pytest.mark.long
def test_a_poison_message_is_dead_after_three_receives_and_holds_nobody_up(
    embedded_ray, server, queue, tmp_path
):
    letters = server.make_queue("letters")
    env = server.env()

    def check(event):
        os.environ.update(env)
        if event["n"] == 3:
            raise ValueError("cannot be read")
        return time.time()

    server.send(queue, {"n": 0, "sent_s": time.time()})
    os.environ.update(env)
    run = on_event(
        streams.sqs(queue, visibility_s=5),
        WithEnv(check, env).handler,
        scale=(1, 1),
        dead_letters=streams.sqs(letters),
        storage=tmp_path,
        wait=False,
    )
    wait_until(lambda: len(results(run)) == 1, run)  # the worker is there
    for n in range(1, 8):
        server.send(queue, {"n": n, "sent_s": time.time()})
    wait_until(lambda: len(results(run)) == 7, run)
    wait_until(lambda: any((run.uri / "dead").list()), run)
    others = [found for found in results(run) if found["event"]["n"]]
    lag_s = max(found["result"] - found["event"]["sent_s"] for found in others)
    print(f"the others' lag: {lag_s:.2f} s at the most")
    [letter] = [stat.uri.read_json() for stat in (run.uri / "dead").list()]
    assert letter["receives"] == 3
    assert letter["message"] == "cannot be read"
    answer = server.client("sqs").receive_message(QueueUrl=letters, WaitTimeSeconds=1)
    assert json.loads(answer["Messages"][0]["Body"])["n"] == 3
    # Whoever had to wait until the poison comes again would be behind by the visibility
    assert lag_s < 5
    run.cancel()


@pytest.mark.long
def test_a_message_that_kills_its_workers_is_dead_after_the_third(
    embedded_ray, server, queue, tmp_path
):
    env = server.env()

    def deadly(event):
        if event["n"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return event["n"]

    server.send(queue, *({"n": n} for n in range(3)))
    run = on_event(
        streams.sqs(queue, visibility_s=2),
        WithEnv(deadly, env).handler,
        scale=(1, 2),
        storage=tmp_path,
        wait=False,
    )
    wait_until(lambda: len(results(run)) == 2, run)
    wait_until(lambda: any((run.uri / "dead").list()), run)
    [letter] = [stat.uri.read_json() for stat in (run.uri / "dead").list()]
    assert json.loads(letter["body"]) == {"n": 1}
    assert letter["error"] == "eksml.errors.WorkerDied"
    assert "3 times" in letter["message"]
    run.cancel()


class WithEnv:
    """A handler whose worker gets the variables before it looks for the queue."""

    def __init__(self, function, env):
        class Handler:
            def __init__(self):
                os.environ.update(env)

            def __call__(self, event):
                return function(event)

        self.handler = Handler


def test_a_queue_that_is_not_there_is_told_before_anything_starts(queue, tmp_path):
    with pytest.raises(NotFound, match="no queue 'nowhere'"):
        on_event(streams.sqs("nowhere"), len, storage=tmp_path)


# A queue at the ends of a stream


def test_events_are_sent_when_their_checkpoint_stands(server, queue, tmp_path):
    import asyncio

    from simulation import Simulation

    graph = streams.items([{"n": n} for n in range(5)]).to(streams.sqs(queue))
    simulation = Simulation(graph, URI.parse(tmp_path / "run"))
    client = server.client("sqs")

    def bodies():
        answer = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return sorted(json.loads(m["Body"])["n"] for m in answer.get("Messages", []))

    async def work():
        await simulation.start(1)
        while not await simulation.read():
            pass
        await simulation.checkpoint(commit=False)
        assert bodies() == []
        await simulation.crash()
        await simulation.start(1)  # takes up what was to be committed
        await simulation.finish()

    asyncio.run(work())
    assert bodies() == list(range(5))


def test_messages_are_deleted_once_a_checkpoint_holds_what_they_did(server, queue, tmp_path):
    import asyncio

    from simulation import Effects, Simulation

    server.send(queue, *({"n": n} for n in range(30)))
    effects = Effects()
    graph = streams.sqs(queue, visibility_s=1).to(streams.call(effects, each_epoch=True))
    simulation = Simulation(graph, URI.parse(tmp_path / "run"), seed=1)

    async def until(condition):
        while not condition():
            await simulation.read()
            await asyncio.sleep(0.01)

    def held():
        return sum(len(f._reader._held) for t in simulation.tasks.values() for f in t._wired.feeds)

    async def work():
        await simulation.start(1)
        await until(lambda: held() >= 10)
        await simulation.checkpoint(commit=False)  # killed before it could delete
        await simulation.crash()
        await simulation.start(1)
        await until(lambda: len(effects.events) + held() >= 30)
        await simulation.checkpoint()
        for _ in range(150):  # what was known has come again, and was deleted
            await simulation.read()
            await asyncio.sleep(0.01)

    asyncio.run(work())
    assert sorted(event["n"] for event in effects.events) == list(range(30))
    attributes = server.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    counts = attributes["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
