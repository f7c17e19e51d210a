"""Rows on a model's own application, beside online requests, without a network between."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from eksml.serving import AppSpec, ModelSpec
from eksml.serving.batch_jobs import BatchJobs
from eksml.serving.batch_jobs.in_process import OFFLINE_PRIORITY, InProcessEngine
from eksml.serving.gate.asgi import Receive, Scope, Send
from eksml.serving.gate.bodies import read_body
from eksml.serving.step_times import Leeway

CHAT = "/v1/chat/completions"


class State:
    ready, context, slots = True, 512, 8

    def leeway(self, online: int) -> Leeway:
        return Leeway(self.slots, 0.0)


class App:
    """Computes in a task of its own, as vLLM does, and ends it when the client has gone."""

    def __init__(self) -> None:
        self.computing = 0
        self.asked: list[Any] = []
        self.open = asyncio.Event()
        self.answer = (200, b'{"id": "a-1", "usage": {"prompt_tokens": 2}}')

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked.append(json.loads(await read_body(scope, receive, 10_000)))
        compute = asyncio.create_task(self._compute())
        gone = asyncio.create_task(receive())
        await asyncio.wait([compute, gone], return_when=asyncio.FIRST_COMPLETED)
        if not compute.done():
            assert (await gone)["type"] == "http.disconnect"
            compute.cancel()
            return
        gone.cancel()
        await send({"type": "http.response.start", "status": self.answer[0], "headers": []})
        await send({"type": "http.response.body", "body": self.answer[1]})

    async def _compute(self) -> None:
        self.computing += 1
        try:
            await self.open.wait()
        finally:
            self.computing -= 1


@pytest.fixture
def spec(tmp_path: Path) -> AppSpec:
    return AppSpec(model=ModelSpec(name="m", source="/m"), batches=str(tmp_path))


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **changes}


def test_an_answer_comes_with_its_status_and_name(spec: AppSpec) -> None:
    async def scene() -> None:
        app = App()
        app.open.set()
        engine = InProcessEngine(app, spec, State())
        reply = await engine.submit(CHAT, body(priority=0))  # what a row says does not count
        assert (reply.status, reply.request_id) == (200, "a-1")
        assert app.asked == [body(priority=OFFLINE_PRIORITY)]
        app.answer = (500, b"oops")
        reply = await engine.submit(CHAT, body())
        assert (reply.status, reply.body["error"]["message"]) == (500, "oops")

    asyncio.run(scene())


def test_what_the_gate_would_refuse_never_reaches_the_application(spec: AppSpec) -> None:
    async def scene() -> None:
        app = App()
        engine = InProcessEngine(app, spec, State())
        for wrong in ({"n": 10**6}, {"max_tokens": -1}, {"model": "../x"}, {"messages": "a\0"}):
            reply = await engine.submit(CHAT, body(**wrong))
            assert reply.status == 400, wrong
            assert reply.body["error"]["type"] == "invalid_request_error"
        assert app.asked == []

    asyncio.run(scene())


def test_a_withdrawn_row_frees_the_application_at_once(spec: AppSpec) -> None:
    async def scene() -> None:
        app = App()
        row = asyncio.create_task(InProcessEngine(app, spec, State()).submit(CHAT, body()))
        while not app.computing:
            await asyncio.sleep(0)
        row.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await row
        await asyncio.sleep(0)
        assert app.computing == 0

    asyncio.run(scene())


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> list[InProcessEngine]:
    """The engines that are made, to be looked at."""
    made: list[InProcessEngine] = []
    monkeypatch.setattr(
        "eksml.serving.batch_jobs.replica.InProcessEngine",
        lambda *given: made.append(InProcessEngine(*given)) or made[-1],
    )
    return made


def test_online_requests_take_slots_from_rows_while_they_are_under_way(
    spec: AppSpec, apart: list[InProcessEngine]
) -> None:
    async def scene() -> None:
        app = App()
        jobs = BatchJobs(spec, app, State(), lambda request: "")
        [engine] = apart
        assert engine.idle_slots() == 8
        transport = httpx.ASGITransport(jobs)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            calls = [asyncio.create_task(client.post(CHAT, json=body())) for _ in range(3)]
            while app.computing < 3:
                await asyncio.sleep(0)
            assert engine.idle_slots() == 5
            assert (await client.get("/v1/batches")).json()["data"] == []
            app.open.set()
            answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {200}
        assert engine.idle_slots() == 8

    asyncio.run(scene())


def test_an_engine_that_is_not_ready_has_no_idle_slots(spec: AppSpec) -> None:
    state = State()
    state.ready = False
    assert InProcessEngine(App(), spec, state).idle_slots() == 0
