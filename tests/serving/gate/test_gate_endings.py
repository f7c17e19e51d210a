"""How answers end: whole, with an error that is seen, or not at all for who has left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from gate_below import (
    CHAT,
    Below,
    Engine,
    Wire,
    app_spec,
    client_of,
    code_of,
    event,
    gate_of,
)

from eksml.observe.access_log import Access
from eksml.serving.gate import RETRY_ON, RETRY_STATUS
from eksml.serving.spec import LimitsSpec, TenantSpec, key_hash

DONE = b"data: [DONE]\n\n"
STREAM = [event("a"), event("b"), DONE]
ERROR = b'data: {"error":{"message":"EngineDeadError","type":"x","param":null,"code":500}}\n\n'


class Told:
    """Meters that remember."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.ended: list[Access] = []

    def request_started(self, *told: Any) -> None:
        self.calls.append(("started", *told))

    def waiting(self, *told: Any) -> None:
        self.calls.append(("waiting", *told))

    def waited(self, tenant: str, seconds: float) -> None:
        self.calls.append(("waited", tenant))

    def request_ended(self, access: Access) -> None:
        self.ended.append(access)
        told = (access.tenant, access.model, access.route, access.status, access.error)
        self.calls.append(("ended", *told))

    def refused(self, access: Access) -> None:
        self.calls.append(("refused", access.tenant, access.error))


async def ask(gate: Any, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    async with client_of(gate) as client:
        body = {**CHAT, **fields}
        return await client.post("/v1/chat/completions", json=body, headers=headers)


def answered(below: Below, engine: Engine | None = None, **arguments: Any) -> httpx.Response:
    return asyncio.run(ask(gate_of(below, engine=engine or Engine(), **arguments), stream=True))


def last_error(answer: httpx.Response) -> dict[str, Any]:
    """Of a stream that ends with one."""
    last = answer.content.rstrip(b"\n").rpartition(b"\n\n")[2]
    found: dict[str, Any] = json.loads(last.removeprefix(b"data: "))["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return found


def test_an_answer_passes_as_it_is() -> None:
    answer = answered(Below(chunks=STREAM))
    assert answer.status_code == 200
    assert answer.content == b"".join(STREAM)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answered(Below()).json()["id"] == "x"
    assert answered(Below(status=418)).status_code == 418


def test_an_answer_carries_the_clients_own_id_if_it_is_one() -> None:
    answer = asyncio.run(ask(gate_of(Below()), headers={"x-request-id": "mine-1"}))
    assert answer.headers["x-request-id"] == "mine-1"
    forged = asyncio.run(ask(gate_of(Below()), headers={"x-request-id": "a b"}))
    assert len(forged.headers["x-request-id"]) == 32


def test_a_stream_that_breaks_ends_with_an_error_and_without_done() -> None:
    answer = answered(Below(chunks=STREAM, fails_at=2))
    assert answer.content.startswith(event("a") + event("b"))
    assert last_error(answer)["code"] == "answer_cut_short"
    assert DONE not in answer.content


def test_openais_client_raises_where_a_stream_breaks() -> None:
    gate = gate_of(Below(chunks=STREAM, fails_at=2))

    async def read() -> list[str]:
        client = openai.AsyncOpenAI(
            base_url="http://model/v1",
            api_key="sk-x",
            http_client=httpx.AsyncClient(transport=httpx.ASGITransport(gate)),
        )
        texts: list[str] = []

        async def keep(stream: openai.AsyncStream[Any]) -> None:
            async for chunk in stream:
                texts.append(chunk.choices[0].text)

        async with client:
            stream = await client.completions.create(model="tiny", prompt="a", stream=True)
            with pytest.raises(openai.APIError, match="ends here unfinished"):
                await keep(stream)
        return texts

    assert asyncio.run(read()) == ["a", "b"]


def test_a_failure_before_the_first_byte_has_a_status_of_its_own() -> None:
    answer = answered(Below(chunks=STREAM, fails_at=0))
    assert answer.status_code == 500
    assert code_of(answer) == "internal_error"


def test_what_an_engine_that_is_dead_has_not_begun_may_be_tried_elsewhere() -> None:
    assert str(RETRY_STATUS) in RETRY_ON.split()
    dead = Engine(alive=False)
    for below in (
        Below(status=500),
        Below(chunks=[ERROR, DONE]),
        Below(chunks=STREAM, fails_at=0),
    ):
        answer = answered(below, dead)
        assert answer.status_code == RETRY_STATUS
        assert code_of(answer) == "engine_unavailable"
        assert answer.headers["retry-after"] == "1"


def test_an_engine_that_is_not_ready_is_given_nothing() -> None:
    below = Below()
    assert answered(below, Engine(ready=False)).status_code == RETRY_STATUS
    assert below.bodies == []


def test_a_stream_whose_engine_dies_ends_with_vllms_error_and_without_done() -> None:
    answer = answered(Below(chunks=[event("a"), ERROR, DONE]), Engine(alive=False))
    assert answer.status_code == 200
    assert answer.content == event("a") + ERROR


def test_a_failed_answer_of_a_living_engine_is_passed_on() -> None:
    assert answered(Below(status=500)).json()["id"] == "x"


def test_a_request_past_its_deadline_is_told_so_and_its_work_ends() -> None:
    below, told = Below(), Told()
    below.hold.clear()
    gate = gate_of(below, meters=told)
    answer = asyncio.run(ask(gate, headers={"x-request-timeout-s": "0.05"}))
    assert answer.status_code == 504
    assert code_of(answer) == "deadline_exceeded"
    assert (below.told, below.running) == (1, 0)
    ended = ("ended", "", "tiny", "/v1/chat/completions", 504, "deadline_exceeded")
    assert told.calls[-1] == ended


def test_an_application_that_does_not_listen_is_cancelled() -> None:
    below = Below(listens=False)
    below.hold.clear()
    answer = asyncio.run(ask(gate_of(below), headers={"x-request-timeout-s": "0.05"}))
    assert answer.status_code == 504
    assert (below.cancelled, below.running) == (1, 0)


def test_the_longest_deadline_is_the_default_and_cannot_be_passed() -> None:
    spec = app_spec(limits=LimitsSpec(deadline_s=0.05))
    for headers in ({}, {"x-request-timeout-s": "1000"}):
        below = Below()
        below.hold.clear()
        assert asyncio.run(ask(gate_of(below, spec), headers=headers)).status_code == 504


def test_a_stream_past_its_deadline_ends_with_an_error() -> None:
    async def stalls(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": event("a"), "more_body": True})
        await asyncio.sleep(60)

    answer = asyncio.run(ask(gate_of(stalls), headers={"x-request-timeout-s": "0.05"}))
    assert answer.status_code == 200
    assert answer.content.startswith(event("a"))
    assert last_error(answer)["code"] == "deadline_exceeded"


def test_a_client_that_sends_its_body_too_slowly_is_ended() -> None:
    async def slow() -> Any:
        yield b"{"
        await asyncio.sleep(60)

    async def send() -> httpx.Response:
        async with client_of(gate_of(Below())) as client:
            headers = {"x-request-timeout-s": "0.05"}
            return await client.post("/v1/completions", content=slow(), headers=headers)

    assert asyncio.run(send()).status_code == 504


@pytest.mark.parametrize("listens", [True, False])
def test_the_work_of_200_clients_that_leave_ends(listens: bool) -> None:
    below, told = Below(listens=listens), Told()
    below.hold.clear()
    engine = Engine(slots=150)
    gate = gate_of(below, engine=engine, capacity=200, meters=told)

    async def run() -> None:
        wires = [Wire(json.dumps(CHAT).encode()) for _ in range(200)]
        calls = [asyncio.ensure_future(gate(w.scope, w.receive, w.send)) for w in wires]
        while below.running < 150:
            await asyncio.sleep(0.001)
        for wire in wires:
            wire.left.set()
        # They end by being told, not by the 60 s of a deadline
        await asyncio.wait_for(asyncio.gather(*calls), 10)
        assert not any(wire.sent for wire in wires)

    asyncio.run(run())
    assert below.running == 0
    assert (below.told if listens else below.cancelled) == len(below.bodies)
    assert gate._means.queue.running == gate._means.queue.waiting == 0
    ended = [call for call in told.calls if call[0] == "ended"]
    assert len(ended) == 200
    assert {call[4] for call in ended} == {499}


def test_a_client_that_leaves_after_a_whole_answer_has_had_it() -> None:
    told = Told()
    gate = gate_of(Below(), meters=told)

    async def run() -> None:
        wire = Wire(json.dumps(CHAT).encode())

        async def send(message: Any) -> None:
            await wire.send(message)
            if message["type"] == "http.response.body":
                wire.left.set()

        await gate(wire.scope, wire.receive, send)

    asyncio.run(run())
    assert told.calls[-1][4] == 200


def test_a_server_that_shuts_down_takes_the_request_with_it_and_its_slot_comes_back() -> None:
    below = Below(listens=False)
    below.hold.clear()
    gate = gate_of(below)

    async def run() -> None:
        wire = Wire(json.dumps(CHAT).encode())
        call = asyncio.ensure_future(gate(wire.scope, wire.receive, wire.send))
        while not below.running:
            await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(run())
    assert gate._means.queue.running == 0


def test_requests_wait_for_slots_and_are_refused_beyond_the_queue() -> None:
    below, told = Below(), Told()
    below.hold.clear()
    gate = gate_of(below, meters=told)

    async def run() -> list[httpx.Response]:
        asked = [asyncio.ensure_future(ask(gate)) for _ in range(8)]
        while gate._means.queue.waiting < 4:
            await asyncio.sleep(0.001)
        refused = await ask(gate)
        below.hold.set()
        return [refused, *await asyncio.gather(*asked)]

    refused, *rest = asyncio.run(run())
    assert refused.status_code == 429
    assert code_of(refused) == "queue_full"
    assert int(refused.headers["retry-after"]) >= 1
    assert [answer.status_code for answer in rest] == [200] * 8
    assert below.most_running == 4
    kinds = [call[0] for call in told.calls]
    assert kinds.count("waited") == 4
    assert kinds.count("started") == kinds.count("ended") == 8
    assert kinds.count("refused") == 1
    assert [call for call in told.calls if call[0] == "waiting"][-1] == ("waiting", "", 0)


def test_those_who_wait_are_sent_elsewhere_when_the_engine_is_not_ready_any_more() -> None:
    below, engine = Below(), Engine()
    below.hold.clear()
    gate = gate_of(below, engine=engine)

    async def run() -> list[int]:
        asked = [asyncio.ensure_future(ask(gate)) for _ in range(6)]
        while gate._means.queue.waiting < 2:
            await asyncio.sleep(0.001)
        engine.ready = False
        gate.turn_away()
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        below.hold.set()
        return sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert asyncio.run(run()) == [200] * 4 + [503] * 2


def test_a_tenants_flood_leaves_the_queue_to_others() -> None:
    below = Below()
    below.hold.clear()
    flood, other = (
        TenantSpec(name=name, key_sha256=key_hash(f"sk-{name}")) for name in ("flood", "other")
    )
    gate = gate_of(below, app_spec(tenants=(flood, other)))

    async def by(name: str) -> int:
        async with client_of(gate, f"sk-{name}") as client:
            return (await client.post("/v1/chat/completions", json=CHAT)).status_code

    async def run() -> tuple[list[int], int]:
        many = [asyncio.ensure_future(by("flood")) for _ in range(20)]
        while gate._means.queue.waiting < 4:
            await asyncio.sleep(0.001)
        one = asyncio.ensure_future(by("other"))
        await asyncio.sleep(0.01)
        below.hold.set()
        return sorted(await asyncio.gather(*many)), await one

    statuses, other_status = asyncio.run(run())
    assert other_status == 200
    assert statuses == [200] * 7 + [429] * 13


def test_prompts_are_told_to_the_log_only_where_it_is_asked_for() -> None:
    for wanted in (False, True):
        told = Told()
        asyncio.run(ask(gate_of(Below(), app_spec(log_prompts=wanted), meters=told)))
        prompt = told.ended[-1].prompt
        assert (prompt is not None and "Hello" in prompt) == wanted
