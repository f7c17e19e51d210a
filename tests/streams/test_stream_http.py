"""Events that are pushed by HTTP; models and sinks behind a URL and in Ray Serve."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import requests
from simulation import Effects, Simulation

import eksml.streams as streams
from eksml.errors import CallError, InvalidSpec, StorageUnavailable
from eksml.storage import URI
from eksml.streams.check import checked
from eksml.testing.ports import free_ports

# Pushed events


def push(port, events, token="secret"):
    """The status of one POST."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.post(
        f"http://127.0.0.1:{port}/events", json=events, headers=headers, timeout=60
    )


@pytest.fixture
def port():
    [found] = free_ports(1)
    return found


def pushed(port, effects):
    return streams.http(port, path="/events", token="secret").to(
        streams.call(effects, each_epoch=True)
    )


async def begun(simulation, requests_):
    """Work until these requests are in the tasks' hands."""
    loop, clients = asyncio.get_running_loop(), ThreadPoolExecutor(len(requests_))
    tasks = [loop.run_in_executor(clients, push, *request) for request in requests_]
    feeds = [feed for task in simulation.tasks.values() for feed in task._wired.feeds]
    while sum(len(feed._reader._answers) for feed in feeds) < len(tasks):
        await asyncio.sleep(0.01)
    for _ in range(20):
        await simulation.read()
    return tasks


async def close(simulation):
    for task in simulation.tasks.values():
        await task._wired.close()


def test_a_request_is_answered_once_a_checkpoint_holds_its_events(port, tmp_path):
    effects = Effects()
    simulation = Simulation(pushed(port, effects), URI.parse(tmp_path / "run"))

    async def work():
        await simulation.start(2)  # both listen on the port
        wanted = [(port, [{"n": 2 * n}, {"n": 2 * n + 1}]) for n in range(10)]
        tasks = await begun(simulation, wanted)
        assert not any(task.done() for task in tasks)
        await simulation.checkpoint()
        answers = await asyncio.gather(*tasks)
        await close(simulation)
        return answers

    answers = asyncio.run(work())
    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (200, {"events": 2})
    ] * 10
    assert sorted(event["n"] for event in effects.events) == list(range(20))


def test_what_a_crash_left_unanswered_comes_again_and_nothing_answered_is_lost(port, tmp_path):
    effects = Effects()
    simulation = Simulation(pushed(port, effects), URI.parse(tmp_path / "run"))

    async def work():
        answered = []
        for crash in range(3):
            await simulation.start(1)
            mine = [number for number in range(30) if number not in answered][:20]
            tasks = await begun(simulation, [(port, {"n": number}) for number in mine])
            await simulation.checkpoint(commit=crash != 1)
            await close(simulation)  # as a crash ends the connections
            answers = await asyncio.gather(*tasks)
            answered += [
                number
                for number, answer in zip(mine, answers, strict=True)
                if answer.status_code == 200
            ]
            assert {answer.status_code for answer in answers} == {503 if crash == 1 else 200}
            await simulation.crash()
        return answered

    assert sorted(asyncio.run(work())) == list(range(30))
    counts = Counter(event["n"] for event in effects.events)
    assert set(counts) == set(range(30))
    assert set(counts.values()) == {1, 2}  # the checkpoint whose answers were lost had them too


def test_who_has_no_token_and_what_is_no_event_is_refused(port, tmp_path):
    simulation = Simulation(pushed(port, Effects()), URI.parse(tmp_path / "run"))

    async def work():
        await simulation.start(1)
        statuses = []
        for token, events in (("wrong", {}), ("secret", 3), ("secret", [{"n": 1}, 2])):
            answer = await asyncio.to_thread(push, port, events, token)
            statuses.append((answer.status_code, answer.text.split(".")[0]))
        await close(simulation)
        return statuses

    told = "Send a JSON object, or a list of objects"
    assert asyncio.run(work()) == [
        (401, "The bearer token is missing or wrong"),
        (400, told),
        (400, told),
    ]
    with pytest.raises(InvalidSpec, match="no token keeps anybody out"):
        checked(streams.http(8080, host="0.0.0.0").to(streams.call(print)))


# Models and sinks behind a URL


class Service(BaseHTTPRequestHandler):
    """Doubles numbers; says it is busy every third time; refuses thirteen."""

    seen: ClassVar[list] = []
    calls = 0

    def do_POST(self):
        cls = type(self)
        cls.calls += 1
        events = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = 200, [{**event, "twice": 2 * event["n"]} for event in events]
        if cls.calls % 3 == 1:
            status, answer = 503, []
        elif any(event["n"] == 13 for event in events):
            status, answer = 422, ["thirteen"]
        else:
            cls.seen.append((self.headers.get("Idempotency-Key"), events))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def service(port):
    class Mine(Service):
        seen: ClassVar[list] = []

    server = ThreadingHTTPServer(("127.0.0.1", port), Mine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{port}/", Mine
    server.shutdown()
    server.server_close()


async def through(simulation):
    await simulation.start(1)
    await simulation.finish()


def test_a_model_behind_a_url_gets_micro_batches_and_what_it_refuses_is_poison(service, tmp_path):
    url, _ = service
    good, dead = [], []
    graph = (
        streams.items([{"n": n} for n in range(40)])
        .infer(streams.endpoint(url), batch=16)
        .to(streams.call(good.extend))
    )
    letters = streams.call(dead.extend)
    asyncio.run(through(Simulation(graph, URI.parse(tmp_path / "run"), dead_letters=letters)))
    assert sorted((event["n"], event["twice"]) for event in good) == [
        (n, 2 * n) for n in range(40) if n != 13
    ]
    [letter] = dead
    assert json.loads(letter["event"]) == {"n": 13}
    assert "422" in letter["message"]


def test_a_service_is_a_sink_that_gets_each_epoch_with_its_key(service, tmp_path):
    url, handler = service
    graph = streams.items([{"n": n} for n in range(10)]).to(
        streams.call(streams.endpoint(url), each_epoch=True)
    )
    asyncio.run(through(Simulation(graph, URI.parse(tmp_path / "run"))))
    [(key, events)] = handler.seen
    assert key.endswith("/1")
    assert events == [{"n": n} for n in range(10)]


def test_an_endpoint_that_is_away_or_answers_nonsense_is_told(port, service):
    away = streams.endpoint("http://127.0.0.1:1/")
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:1/ does not answer"):
        away([{"n": 1}])
    with pytest.raises(CallError, match="refuses the events: 422"):
        streams.endpoint(service[0])([{"n": 13}])


# Ray Serve


@pytest.mark.long
def test_applications_of_serve_are_models_and_sinks(embedded_ray, tmp_path):
    from ray import serve

    @serve.deployment(ray_actor_options={"num_cpus": 0.1})
    class Scores:
        def __call__(self, columns):
            return {**columns, "score": columns["n"] * 10}

    @serve.deployment(ray_actor_options={"num_cpus": 0.1})
    class Audit:
        def __init__(self):
            self.seen = []

        def __call__(self, events):
            self.seen += events

        def all(self):
            return self.seen

    serve.run(Scores.bind(), name="scores", route_prefix=None)
    audit = serve.run(Audit.bind(), name="audit", route_prefix=None)
    try:
        run = streams.stream(
            streams.items([{"n": n} for n in range(100)])
            .infer(streams.served("scores"), batch=32, cpus=0.1)
            .to(streams.call(streams.served("audit"))),
            storage=tmp_path,
        )
        assert run.state == "succeeded"
        seen = audit.all.remote().result()
    finally:
        serve.shutdown()
    assert sorted((event["n"], event["score"]) for event in seen) == [
        (n, 10 * n) for n in range(100)
    ]
