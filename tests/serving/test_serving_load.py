"""The load's oracle against a real server that answers well, refuses, breaks, cuts and hangs."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import Iterator
from typing import Self

import pytest
from aiohttp import web

from eksml.errors import InvalidSpec
from eksml.testing.load import Load, driving, run, shared_prefixes, unique_prompts
from eksml.testing.outcomes import Outcome, Report, Sent, quantile_of


class FaultyServer:
    """Answers its n-th request with the n-th of its faults."""

    def __init__(self) -> None:
        self.url = ""
        self.prompts: list[str] = []
        self._faults: tuple[str | None, ...] = ()
        self._ready = threading.Event()

    def with_faults(self, *faults: str | None) -> str:
        """The URL of a server that saw no request yet."""
        self._faults = faults
        self.prompts.clear()
        return self.url

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        number = len(self.prompts)
        self.prompts.append(asked["prompt"])
        fault = self._faults[number] if number < len(self._faults) else None
        if fault == "refuse":
            return web.json_response({"error": {"message": "busy"}}, status=429)
        if fault == "unready":
            return web.json_response({}, status=503, headers={"Retry-After": "1"})
        if fault == "crash":
            return web.json_response({"error": {"message": "boom"}}, status=500)
        if fault == "reset":
            request.transport.abort()
            return web.Response()
        if asked.get("stream"):
            return await self._stream(request, asked["max_tokens"], fault)
        tokens = asked["max_tokens"] - (1 if fault == "short" else 0)
        return web.json_response({"usage": {"completion_tokens": tokens}})

    async def _stream(
        self, request: web.Request, tokens: int, fault: str | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(tokens):
            if number == 2 and fault in ENDS:
                await response.write(ENDS[fault])
                return response
            if number == 2 and fault == "break":
                request.transport.abort()
                return response
            if number == 2 and fault == "hang":
                await self._ended.wait()
            finish = "length" if number == tokens - 1 else None
            await _write(response, {"choices": [{"text": "a", "finish_reason": finish}]})
            await asyncio.sleep(0.002)
        made = tokens - (1 if fault == "short" else 0)
        await _write(response, {"choices": [], "usage": {"completion_tokens": made}})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _serve(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/completions", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        await self._ended.wait()
        await runner.cleanup()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


ENDS = {
    "error event": b'data: {"error": {"message": "engine died"}}\n\n',
    "half": b'data: {"choi',
    "cut": b"",
}


async def _write(response: web.StreamResponse, event: dict) -> None:
    await response.write(f"data: {json.dumps(event)}\n\n".encode())


@pytest.fixture(scope="module")
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        yield server


def test_every_stream_has_the_one_end_that_its_client_saw(server: FaultyServer) -> None:
    faults = {
        None: Outcome.OK,
        "refuse": Outcome.REFUSED,
        "unready": Outcome.REFUSED,
        "crash": Outcome.FAILED,
        "reset": Outcome.FAILED,
        "error event": Outcome.ERROR_EVENT,
        "break": Outcome.BROKEN,
        "cut": Outcome.TRUNCATED,
        "half": Outcome.TRUNCATED,
        "short": Outcome.TRUNCATED,
        "hang": Outcome.HUNG,
    }
    url = server.with_faults(*faults)
    report = run(Load(url, "llm", len(faults), clients=1, max_tokens=4, timeout_s=1))
    assert [each.outcome for each in report.sent] == list(faults.values())
    assert len(report.lost) == 8
    assert report.count(Outcome.OK) == 1


def test_an_answer_that_is_not_streamed_is_checked_for_its_tokens(server: FaultyServer) -> None:
    url = server.with_faults(None, "short", "crash", "reset", "refuse")
    report = run(Load(url, "llm", 5, clients=1, stream=0))
    wanted = [Outcome.OK, Outcome.TRUNCATED, Outcome.FAILED, Outcome.FAILED, Outcome.REFUSED]
    assert [each.outcome for each in report.sent] == wanted
    assert [each.status for each in report.sent] == [200, 200, 500, None, 429]


def test_a_server_that_is_not_there_fails_every_request(server: FaultyServer) -> None:
    report = run(Load("http://127.0.0.1:9/v1", "llm", 3, clients=2))
    assert report.count(Outcome.FAILED) == 3
    assert math.isnan(report.ttft_s(0.5))


def test_an_open_loop_sends_all_at_its_rate_whatever_the_server_does(server: FaultyServer) -> None:
    url = server.with_faults("hang", "hang", "hang")
    report = run(Load(url, "llm", 100, rate=200, max_tokens=4, timeout_s=1, seed=3))
    assert report.count(Outcome.OK) == 97
    assert report.count(Outcome.HUNG) == 3
    begins = [each.began for each in report.sent]
    assert begins == sorted(begins)
    assert 0.3 < begins[-1] < 0.8, "100 requests at 200 a second"


def test_a_closed_loop_never_has_more_requests_than_clients(server: FaultyServer) -> None:
    url = server.with_faults()
    report = run(Load(url, "llm", 30, clients=3, max_tokens=4))
    for each in report.sent:
        together = [e for e in report.sent if e.began < each.ended and each.began < e.ended]
        assert len([e for e in together if e.began <= each.began < e.ended]) <= 3
    assert report.count(Outcome.OK) == 30


def test_a_client_that_hangs_up_is_counted_as_such(server: FaultyServer) -> None:
    report = run(Load(server.with_faults(), "llm", 4, clients=4, max_tokens=50, leave_after=3))
    assert report.count(Outcome.LEFT) == 4
    assert not report.lost


def test_both_kinds_of_requests_are_mixed_by_their_share(server: FaultyServer) -> None:
    report = run(Load(server.with_faults(), "llm", 100, clients=10, stream=0.5, max_tokens=4))
    assert 30 < sum(each.stream for each in report.sent) < 70
    assert report.count(Outcome.OK) == 100
    assert all(len(each.itl_s) == (3 if each.stream else 0) for each in report.sent)
    assert report.itl_s(0.5) >= 0.002


def test_a_load_runs_beside_what_its_caller_does(server: FaultyServer) -> None:
    with driving(Load(server.with_faults(), "llm", 20, rate=100)) as report:
        pass
    assert report().count(Outcome.OK) == 20
    assert "20 sent" in str(report())


def test_prompts_come_from_the_seed(server: FaultyServer) -> None:
    url = server.with_faults()
    run(Load(url, "llm", 5, clients=1, prompt=shared_prefixes(7, prefixes=2), max_tokens=2))
    prompts = list(server.prompts)
    assert prompts == [shared_prefixes(7, prefixes=2)(number) for number in range(5)]
    assert len({prompt[:200] for prompt in prompts}) == 2
    assert len(set(prompts)) == 5
    assert len({unique_prompts(7)(number)[:10] for number in range(5)}) == 5


def test_the_longest_gap_is_between_answers_and_counts_the_begin() -> None:
    def ended(at: float, outcome: Outcome = Outcome.OK) -> Sent:
        return Sent(0, 0.0, at, outcome, stream=False)

    sent = (ended(0.5), ended(4.0), ended(2.0, Outcome.FAILED), ended(5.0))
    assert Report(sent, 5.0, seed=0).longest_gap_s == 3.5
    assert Report((ended(1.0), ended(1.5)), 1.5, seed=0).longest_gap_s == 1.0


def test_a_quantile_is_one_of_the_values() -> None:
    values = [float(n) for n in range(1, 101)]
    assert quantile_of(values, 0.5) == 50
    assert quantile_of(values, 0.99) == 99
    assert quantile_of(values, 1.0) == 100
    assert quantile_of([7.0], 0.01) == 7


def test_a_load_that_makes_no_sense_is_refused_with_all_reasons() -> None:
    with pytest.raises(InvalidSpec) as error:
        Load("http://x/v1", "llm", 0, clients=2, rate=3.0, stream=2)
    assert [problem.path for problem in error.value.problems] == [
        "num_requests",
        "clients",
        "stream",
    ]
