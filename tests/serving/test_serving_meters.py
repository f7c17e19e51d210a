"""What is counted of requests, and what operators read of it."""

from __future__ import annotations

import json
import time
import urllib.request
from types import SimpleNamespace
from typing import Any

import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families

from eksml.observe import metrics
from eksml.observe.access_log import Access, AccessLog
from eksml.serving.answer import Answer
from eksml.serving.instruments import Page, RayAgents
from eksml.serving.request_meters import MOST_NAMES, OTHERS, RequestMeters

CHAT = "/v1/chat/completions"
STREAM = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream; charset=utf-8")],
}
JSON = {**STREAM, "headers": [(b"content-type", b"application/json")]}


def refusal(tenant: str, code: str, **more: Any) -> Access:
    return Access(tenant, "", CHAT, 401, 0.0, error=code, **more)


class Counted:
    """Meters on a page of their own, and what stands on it."""

    def __init__(self) -> None:
        self.registry = prometheus_client.CollectorRegistry()
        self.lines: list[str] = []
        log = AccessLog(self.lines.append, now=lambda: 1_764_144_000.25)
        self.meters = RequestMeters("tiny", "v3", "r1", [Page(self.registry)], [log.tell])

    def value(self, name: str, **labels: str) -> float | None:
        labels = {"model": "tiny", "version": "v3", "tenant": "acme", **labels}
        return self.registry.get_sample_value(name, labels)


def test_a_streamed_request_is_counted_by_model_version_and_tenant() -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    assert counted.value("eksml_serve_requests_running") == 1
    counted.meters.waiting("acme", 3)
    counted.meters.waited("acme", 0.2)
    counted.meters.request_ended(Access("acme", "tiny", CHAT, 200, 1.5, 0.5, 10, 21))
    assert counted.value("eksml_serve_requests_running") == 0
    assert counted.value("eksml_serve_requests_waiting") == 3
    assert counted.value("eksml_serve_wait_seconds_sum") == pytest.approx(0.2)
    assert counted.value("eksml_serve_requests_total", route=CHAT, status="200") == 1
    assert counted.value("eksml_serve_ttft_seconds_sum") == 0.5
    assert counted.value("eksml_serve_request_seconds_sum") == 1.5
    assert counted.value("eksml_serve_token_seconds_sum") == pytest.approx(0.05)
    assert counted.value("eksml_serve_tokens_in_total") == 10
    assert counted.value("eksml_serve_tokens_out_total") == 21


def test_a_request_that_streams_nothing_has_no_first_token() -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", "/v1/embeddings")
    counted.meters.request_ended(Access("acme", "tiny", "/v1/embeddings", 200, 0.1, None, 7, 0))
    assert counted.value("eksml_serve_ttft_seconds_count") is None
    assert counted.value("eksml_serve_token_seconds_count") is None
    assert counted.value("eksml_serve_tokens_in_total") == 7


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [(500, "", "500"), (503, "engine_dead", "engine_dead"), (200, "deadline", "deadline")],
)
def test_failures_are_counted_those_of_streams_too(status: int, error: str, code: str) -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    counted.meters.request_ended(Access("acme", "tiny", CHAT, status, 1.0, error=error))
    assert counted.value("eksml_serve_errors_total", code=code) == 1


@pytest.mark.parametrize(("status", "error"), [(400, "bad_request"), (499, ""), (200, "")])
def test_a_clients_own_fault_is_no_failure(status: int, error: str) -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    counted.meters.request_ended(Access("acme", "tiny", CHAT, status, 1.0, error=error))
    assert "eksml_serve_errors" not in prometheus_client.generate_latest(counted.registry).decode()


def test_refusals_are_counted_by_their_reason() -> None:
    counted = Counted()
    counted.meters.refused(refusal("acme", "rate_limit_exceeded"))
    counted.meters.refused(refusal("acme", "rate_limit_exceeded"))
    assert counted.value("eksml_serve_refused_total", reason="rate_limit_exceeded") == 2
    assert counted.value("eksml_serve_requests_running") is None


def test_every_metric_is_shown_under_the_names_that_are_written_down() -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    counted.meters.waiting("acme", 1)
    counted.meters.waited("acme", 0.2)
    counted.meters.request_ended(Access("acme", "tiny", CHAT, 200, 1.5, 0.5, 10, 21, error="died"))
    counted.meters.refused(refusal("acme", "invalid_api_key"))
    page = prometheus_client.generate_latest(counted.registry).decode()
    shown = {
        sample.name
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert shown == {series for metric in metrics.SERVING for series in metric.series}


def test_strangers_names_do_not_grow_the_page_without_end() -> None:
    counted = Counted()
    for number in range(MOST_NAMES + 50):
        counted.meters.refused(refusal(f"tenant-{number}", "rate_limit_exceeded"))
    assert (
        counted.value("eksml_serve_refused_total", tenant=OTHERS, reason="rate_limit_exceeded")
        == 50
    )


def test_the_access_log_has_a_json_line_for_each_request() -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    counted.meters.request_ended(
        Access("acme", "tiny", CHAT, 200, 1.50004, 0.5, 10, 21, request_id="req-1")
    )
    counted.meters.refused(refusal("", "invalid_api_key", request_id="req\n2" * 99))
    first, second = map(json.loads, counted.lines)
    assert first == {
        "at": "2025-11-26T08:00:00.250Z",
        "request_id": "req-1",
        "tenant": "acme",
        "model": "tiny",
        "route": CHAT,
        "status": 200,
        "seconds": 1.5,
        "ttft_s": 0.5,
        "tokens_in": 10,
        "tokens_out": 21,
    }
    assert second["error"] == "invalid_api_key"
    assert len(second["request_id"]) == 128
    assert all(line.count("\n") == 1 and line.endswith("\n") for line in counted.lines)


def test_prompts_are_logged_only_when_they_are_given() -> None:
    counted = Counted()
    counted.meters.request_started("acme", "tiny", CHAT)
    counted.meters.request_ended(Access("acme", "tiny", CHAT, 200, 1.0, prompt='{"messages": []}'))
    assert json.loads(counted.lines[0])["prompt"] == '{"messages": []}'


def answer(*messages: dict[str, Any], usage: Any = None) -> Answer:
    """An answer that was seen by a clock which goes on a second with each look."""
    scope: dict[str, Any] = {}
    ticks = iter(range(100, 200))
    seen = Answer(scope, lambda: next(ticks), 90.0)
    for message in messages:
        seen.see(message)
    if usage is not None:
        scope["state"]["request_metadata"] = SimpleNamespace(final_usage_info=usage)
    return seen


def event(text: str) -> dict[str, Any]:
    return {"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True}


def test_a_streams_tokens_are_what_the_engine_says() -> None:
    usage = SimpleNamespace(prompt_tokens=9, completion_tokens=12)
    seen = answer(STREAM, event('{"id":"1","choices":[]}'), event("[DONE]"), usage=usage)
    assert (seen.status, seen.ttft_s, seen.failed) == (200, 10.0, False)
    assert seen.tokens() == (9, 12)


def test_a_stream_that_was_cut_has_at_least_as_many_tokens_as_events() -> None:
    assert answer(STREAM, event('{"id":"1"}'), event('{"id":"2"}')).tokens() == (None, 2)


def test_an_error_in_the_middle_of_a_stream_is_seen_and_one_in_the_models_words_is_not() -> None:
    words = json.dumps({"id": "1", "choices": [{"text": 'data: {"error": {}}'}]})
    assert not answer(STREAM, event(words)).failed
    assert answer(STREAM, event('{"error":{"message":"EngineCore died"}}')).failed


def test_an_embeddings_tokens_are_read_from_its_end() -> None:
    body = json.dumps(
        {"data": [{"embedding": [0.25] * 1000}], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
        separators=(",", ":"),
    )
    seen = answer(JSON, {"type": "http.response.body", "body": body.encode()})
    assert seen.tokens() == (5, 0)
    assert seen.ttft_s is None


@pytest.mark.parametrize(
    "tail", [b"", b'"usage":{', b'"usage":{"prompt_tokens":"x"}}', b"\xff" * 9]
)
def test_an_answer_that_tells_no_usage_has_none(tail: bytes) -> None:
    assert answer(JSON, {"type": "http.response.body", "body": tail}).tokens()[0] is None


def test_rays_agent_shows_the_same_numbers(embedded_ray: None) -> None:
    import ray

    meters = RequestMeters("tiny", "v3", "r1", [RayAgents()])
    meters.request_started("acme", "tiny", CHAT)
    meters.waiting("acme", 1)
    meters.waited("acme", 0.2)
    meters.request_ended(Access("acme", "tiny", CHAT, 200, 1.5, 0.5, 10, 21, error="died"))
    meters.refused(refusal("acme", "invalid_api_key"))
    node = ray.nodes()[0]
    page = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    wanted = {series for metric in metrics.SERVING for series in metric.ray_series}
    while True:  # until the agent was told, within the test's own limit
        with urllib.request.urlopen(page) as response:
            text = response.read().decode()
        samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
        if wanted <= {s.name for s in samples if s.labels.get("version") == "v3"}:
            break
        time.sleep(0.2)
    mine = [s for s in samples if s.labels.get("version") == "v3"]  # others' models are there too
    (tokens,) = [s for s in mine if s.name == "ray_eksml_serve_tokens_out_total"]
    assert tokens.value == 21
    assert tokens.labels["tenant"] == "acme"
