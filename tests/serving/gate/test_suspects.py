"""Requests that kill engines: two victims, no third, and the innocent stay so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from gate_below import CHAT, Below, Engine, client_of, code_of, gate_of
from hypothesis import given
from hypothesis import strategies as st

from eksml.errors import Damaged
from eksml.serving.gate import Suspects
from eksml.serving.gate.alone import Alone
from eksml.serving.gate.suspects import FORGET_S, MOST_REMEMBERED, digest_of

BAD = digest_of("/v1/completions", b"bad")
GOOD = digest_of("/v1/completions", b"good")
POISON = {**CHAT, "messages": [{"role": "user", "content": "poison"}]}


def clock() -> float:
    return 1_000_000.0


def killed(suspects: Suspects, *digests: str) -> None:
    for digest in digests:
        suspects.begin(digest)
    for digest in digests:
        suspects.end(digest, well=False, died=True)


def test_a_request_is_refused_after_its_second_victim() -> None:
    first, second = Suspects(clock), Suspects(clock)
    killed(first, BAD)
    assert first.suspected(BAD)
    assert not first.refused(BAD)
    second.merge(first.to_json())
    killed(second, BAD)
    assert second.refused(BAD)


def test_one_death_is_one_victim_however_often_the_request_ran() -> None:
    suspects = Suspects(clock)
    killed(suspects, BAD, BAD, BAD)
    assert suspects.num_victims(BAD) == 1


def test_an_answer_clears_a_suspect() -> None:
    suspects = Suspects(clock)
    killed(suspects, GOOD, BAD)
    suspects.begin(GOOD)
    suspects.end(GOOD, well=True, died=False)
    assert not suspects.suspected(GOOD)
    assert suspects.suspected(BAD)


def test_a_suspicion_lapses() -> None:
    now_s = 0.0
    suspects = Suspects(lambda: now_s)
    killed(suspects, BAD)
    now_s = FORGET_S + 1
    assert not suspects.suspected(BAD)


def test_what_a_killed_replica_ran_is_suspected() -> None:
    dead, other = Suspects(clock), Suspects(clock)
    dead.begin(BAD)
    told = json.loads(json.dumps(dead.to_json()))
    other.merge(told)
    assert not other.suspected(BAD)
    other.merge(told, died=True)
    assert other.num_victims(BAD) == 1


def test_memory_is_bounded() -> None:
    suspects = Suspects(clock)
    for at in range(MOST_REMEMBERED + 10):
        killed(suspects, digest_of("/", str(at).encode()))
    assert len(suspects.to_json()["victims"]) == MOST_REMEMBERED
    assert suspects.suspected(digest_of("/", str(MOST_REMEMBERED + 9).encode()))


DIGESTS = st.sampled_from([digest_of("/", bytes([at])) for at in range(5)])


@given(st.lists(st.lists(DIGESTS, max_size=4), min_size=3, max_size=3), st.permutations(range(3)))
def test_lists_merge_in_any_order_and_as_often_as_one_likes(
    deaths: list[list[str]], order: list[int]
) -> None:
    replicas = []
    for at, digests in enumerate(deaths):
        replicas.append(Suspects(clock, engine=f"engine-{at}"))
        killed(replicas[-1], *digests)
    one, two = Suspects(clock, "x"), Suspects(clock, "x")
    for at in range(3):
        one.merge(replicas[at].to_json())
    for at in (*order, *order):
        two.merge(json.loads(json.dumps(replicas[at].to_json())))
    assert one.to_json()["victims"] == two.to_json()["victims"]


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"engine": "a", "victims": [], "running": []},
        {"engine": "a", "victims": {}, "running": ["../x"]},
        {"engine": "a", "victims": {"short": {"b": 1.0}}, "running": []},
        {"engine": "a", "victims": {BAD: {}}, "running": []},
        {"engine": "a", "victims": {BAD: {"b": "soon"}}, "running": []},
        {"engine": "a", "victims": {BAD: {"b": float("inf")}}, "running": []},
        {"engine": 7, "victims": {}, "running": []},
    ],
)
def test_a_damaged_list_is_told_and_changes_nothing(told: Any) -> None:
    suspects = Suspects(clock)
    with pytest.raises(Damaged, match="Delete it"):
        suspects.merge(told)
    assert suspects.to_json()["victims"] == {}


async def ask(gate: Any, body: Any) -> httpx.Response:
    async with client_of(gate) as client:
        return await client.post("/v1/chat/completions", json=body)


def test_a_poisoned_request_kills_two_engines_and_is_refused_by_the_third() -> None:
    told: list[Any] = []
    answers = []
    for _ in range(3):
        engine = Engine()
        gate = gate_of(Below(engine=engine, kills=True), engine=engine)
        for other in told:
            gate.suspects.merge(other)
        answers.append(asyncio.run(ask(gate, POISON)))
        told.append(gate.suspects.to_json())
        assert engine.alive == (len(told) == 3)
    assert [answer.status_code for answer in answers] == [503, 422, 422]
    assert code_of(answers[1]) == code_of(answers[2]) == "request_kills_engine"


def test_suspects_are_computed_one_at_a_time_and_others_beside_them() -> None:
    below = Below()
    below.hold.clear()
    gate = gate_of(below)
    bodies = [{**CHAT, "seed": at} for at in range(3)]

    async def run() -> list[int]:
        for body in bodies[:2]:
            killed(gate.suspects, digest_of("/v1/chat/completions", as_sent(body)))
        asked = [asyncio.ensure_future(ask(gate, body)) for body in bodies]
        while below.running < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert below.running == 2, "two suspects at once, or nobody beside the one"
        below.hold.set()
        return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(run()) == [200] * 3
    assert below.most_running == 2
    assert gate.suspects.to_json()["victims"] == {}


def test_a_request_whose_engine_died_is_sent_elsewhere_once_the_others_know() -> None:
    engine, heard = Engine(), asyncio.Event()
    gate = gate_of(Below(engine=engine, kills=True), engine=engine, mourn=heard.wait)

    async def run() -> int:
        asked = asyncio.ensure_future(ask(gate, POISON))
        await asyncio.sleep(0.05)
        assert not asked.done()
        heard.set()
        return (await asked).status_code

    assert asyncio.run(run()) == 503


def test_many_suspects_are_all_let_in_within_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eksml.serving.gate.alone.ALL_S", 0.2)

    async def run() -> None:
        door = Alone()
        await asyncio.wait_for(asyncio.gather(*(door.enter() for _ in range(100))), 5)

    asyncio.run(run())


def as_sent(body: Any) -> bytes:
    return httpx.Request("POST", "http://model", json=body).content
