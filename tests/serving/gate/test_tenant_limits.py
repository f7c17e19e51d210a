"""Requests and tokens per minute, by a clock that the tests turn."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from gate_below import CHAT, USAGE, Below, app_spec, client_of, code_of, event, gate_of
from hypothesis import given
from hypothesis import strategies as st

from eksml.serving.gate.errors import Refused
from eksml.serving.gate.limits import Limits
from eksml.serving.spec import TenantSpec, key_hash

KEY = "sk-test"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def tenant(**limits: Any) -> TenantSpec:
    return TenantSpec(name="acme", key_sha256=key_hash(KEY), **limits)


def ask(gate: Any, **fields: Any) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client_of(gate, KEY) as client:
            return await client.post("/v1/chat/completions", json={**CHAT, **fields})

    return asyncio.run(once())


def test_requests_beyond_a_minutes_worth_are_told_when_to_come_again() -> None:
    clock = Clock()
    spec = app_spec(tenants=(tenant(requests_per_minute=3),))
    gate = gate_of(Below(), spec, clock=clock)
    left = [ask(gate).headers["x-ratelimit-remaining-requests"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    answer = ask(gate)
    assert answer.status_code == 429
    assert code_of(answer) == "rate_limit_exceeded"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer.headers["retry-after"] == "20"
    assert answer.headers["x-ratelimit-limit-requests"] == "3"
    assert answer.headers["x-ratelimit-reset-requests"] == "60.000s"
    clock.now_s += 20
    assert ask(gate).status_code == 200
    assert ask(gate).status_code == 429


def test_tokens_are_reserved_by_estimate_and_settled_by_the_answers_usage() -> None:
    spec = app_spec(tenants=(tenant(tokens_per_minute=1000),))
    gate = gate_of(Below(), spec, clock=Clock())
    first = ask(gate, max_tokens=900)
    assert int(first.headers["x-ratelimit-remaining-tokens"]) <= 100
    second = ask(gate, max_tokens=900)
    assert second.status_code == 200, "what the first did not use was not given back"
    third = ask(gate, max_tokens=1)
    left = 1000 - 2 * USAGE["total_tokens"] - 1
    assert int(third.headers["x-ratelimit-remaining-tokens"]) == pytest.approx(left, abs=3)


def test_a_stream_without_usage_is_settled_by_its_events() -> None:
    spec = app_spec(tenants=(tenant(tokens_per_minute=1000),))
    below = Below(chunks=[event("a")] * 200)
    gate = gate_of(below, spec, clock=Clock())
    ask(gate, max_tokens=900, stream=True)
    below.chunks = None
    left = ask(gate, max_tokens=1).headers["x-ratelimit-remaining-tokens"]
    assert int(left) == pytest.approx(1000 - 200, abs=5)


def test_a_request_larger_than_a_minutes_worth_passes_once_and_is_paid_for_by_waiting() -> None:
    clock = Clock()
    limits = Limits(clock, lambda: 0.1)
    owner = tenant(tokens_per_minute=1000)
    limits.take(owner, 500).settle(500)
    with pytest.raises(Refused) as refused:
        limits.take(owner, 1)
    assert (b"retry-after", b"241") in refused.value.headers
    clock.now_s += 241
    limits.take(owner, 1)


def test_a_replica_gives_its_share_of_a_tenants_limit() -> None:
    spec = app_spec(tenants=(tenant(requests_per_minute=40),))
    gate = gate_of(Below(), spec, clock=Clock(), share=lambda: 1 / 4)
    assert [ask(gate).status_code for _ in range(11)] == [200] * 10 + [429]


def test_who_has_no_limits_is_told_none() -> None:
    answer = ask(gate_of(Below(), app_spec(tenants=(tenant(),))))
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20), st.integers(0, 60))))
def test_no_one_gets_more_than_a_minutes_worth_and_the_rate(
    requests: list[tuple[int, int, int]],
) -> None:
    clock = Clock()
    limits = Limits(clock, lambda: 1.0)
    owner = tenant(tokens_per_minute=60)
    used = 0
    for estimate, seconds, actual in requests:
        clock.now_s += seconds
        try:
            reserved = limits.take(owner, estimate)
        except Refused:
            continue
        used += actual
        reserved.settle(actual)
        assert used <= 60 + clock.now_s + 60
