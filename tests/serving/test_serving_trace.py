"""Spans of requests, as a real exporter sends them to a collector."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from eksml.observe.access_log import Access
from eksml.serving.trace import endpoint, tell_span, traced

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes spans over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )

        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    names = {a.key: a.value.string_value for a in resource.resource.attributes}
                    collector.services.append(names["service.name"])
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    made.thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    made.thread.join()


@pytest.fixture(scope="module")
def environment(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server.server_port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }


class Model:
    """The application below: remembers what it was asked, and answers with a status."""

    def __init__(self, status: int = 200, error: str = "") -> None:
        self.status = status
        self.error = error
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers = dict(scope["headers"])
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        tell_span(
            Access("acme", "tiny", scope["path"], self.status, 1.0, 0.25, 9, 12, error=self.error)
        )
        await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module")
def ask(environment: dict[str, str], collector: Collector) -> Any:
    """Sends a request through a traced application; gives its spans.

    One provider for all: OpenTelemetry takes a global one once a process.
    """
    from opentelemetry import trace

    models: list[Any] = []

    async def current(scope: Any, receive: Any, send: Any) -> None:
        await models[-1](scope, receive, send)

    app = traced(current, "llm", environment)

    def asked(model: Any, path: str = "/v1/completions", **headers: str) -> list[Any]:
        models.append(model)
        collector.spans.clear()
        given = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": "POST", "path": path, "headers": given}
        asyncio.run(app(scope, None, _nowhere))
        trace.get_tracer_provider().force_flush()
        return list(collector.spans)

    return asked


async def _nowhere(message: Any) -> None:
    pass


def attributes(span: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def test_a_request_has_a_span_with_what_is_known_of_it(ask: Any, collector: Collector) -> None:
    (span,) = ask(Model())
    assert span.name == "/v1/completions"
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "url.path": "/v1/completions",
        "eksml.tenant": "acme",
        "eksml.ttft_s": 0.25,
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.usage.output_tokens": 12,
    }
    assert collector.services[-1] == "llm"


def test_a_callers_trace_goes_on_and_the_engines_span_is_a_child_of_ours(ask: Any) -> None:
    model = Model()
    (span,) = ask(model, traceparent=CALLER, authorization="Bearer secret")
    assert span.trace_id.hex() == CALLER.split("-")[1]
    assert span.parent_span_id.hex() == CALLER.split("-")[2]
    handed_on = model.headers[b"traceparent"].decode().split("-")
    assert handed_on[1:3] == [span.trace_id.hex(), span.span_id.hex()]
    assert "secret" not in str(span)


def test_a_request_of_nobodys_trace_begins_one_for_the_engine(ask: Any) -> None:
    model = Model()
    (span,) = ask(model, traceparent="not a trace")
    assert not span.parent_span_id
    assert model.headers[b"traceparent"].decode().split("-")[1] == span.trace_id.hex()


@pytest.mark.parametrize("model", [Model(503), Model(200, "engine_dead")])
def test_a_failure_is_an_error_of_the_span(ask: Any, model: Model) -> None:
    (span,) = ask(model)
    assert span.status.code == span.status.STATUS_CODE_ERROR


def test_a_clients_own_fault_is_no_error_of_the_span(ask: Any) -> None:
    (span,) = ask(Model(400, "invalid"))
    assert span.status.code == span.status.STATUS_CODE_UNSET
    assert attributes(span)["error.type"] == "invalid"


def test_an_application_that_raises_ends_its_span_as_an_error(ask: Any) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(broken)
    first, second = ask(Model())
    assert first.status.code == first.status.STATUS_CODE_ERROR
    assert second.status.code == second.status.STATUS_CODE_UNSET


def test_what_machines_ask_all_the_time_has_no_span(ask: Any) -> None:
    assert ask(Model(), "/health") == []
    assert ask(Model(), "/metrics") == []


def test_nothing_is_traced_unless_somebody_takes_the_spans() -> None:
    model = Model()
    assert traced(model, "llm", {}) is model


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "http://c:4317"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            },
            "http://c:4318/v1/traces",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:4318/own",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            "http://t:4318/own",
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, None),
    ],
)
def test_where_spans_go_is_what_opentelemetrys_variables_say(
    environment: dict[str, str], wanted: str | None
) -> None:
    assert endpoint(environment) == wanted
