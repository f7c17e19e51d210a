"""A span for each request, by OpenTelemetry's own variables; nothing where they are not set.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT``) turns it on,
``OTEL_SDK_DISABLED=true`` and ``OTEL_TRACES_EXPORTER=none`` turn it off; the service's name, the
sampler and the exporter's headers are OpenTelemetry's variables as well.

A caller's ``traceparent`` is taken over, and the span's own is put in its place: vLLM, which is
given :func:`endpoint` as ``otlp_traces_endpoint``, makes its span with the engine's times a child.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from eksml.errors import MissingExtra
from eksml.observe.access_log import Access
from eksml.serving.gate.asgi import ASGIApp, Message, Receive, Scope, Send, path_of

QUIET = ("/health", "/ready", "/metrics")
"""Routes that machines ask all the time."""

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_HTTP = "http/protobuf"
_CARRIED = (b"traceparent", b"tracestate")


def endpoint(environment: Mapping[str, str] = os.environ) -> str | None:
    """Where spans go, as vLLM takes it; None if nobody wants them.

    OpenTelemetry's general endpoint is a base: with HTTP the path of traces is added to it.
    """
    off = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if off or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    own, base = (environment.get(name) for name in _ENDPOINTS)
    if own or not base or protocol(environment) != _HTTP:
        return own or base or None
    return base.rstrip("/") + "/v1/traces"


def protocol(environment: Mapping[str, str] = os.environ) -> str:
    """``grpc`` or ``http/protobuf``."""
    return next((environment[name] for name in _PROTOCOLS if environment.get(name)), "grpc")


def traced(app: ASGIApp, service: str, environment: Mapping[str, str] = os.environ) -> ASGIApp:
    """The application with a span around each request, or itself if nobody wants spans.

    Raises:
        MissingExtra: Spans are wanted and OpenTelemetry is not installed.
    """
    to = endpoint(environment)
    if to is None:
        return app
    return _Traced(app, _tracer(service, to, protocol(environment)))


def tell_span(access: Access) -> None:
    """Put what is known of a request that ended on the span around it, if there is one."""
    try:
        from opentelemetry import trace
    except ImportError:
        return
    span = trace.get_current_span()
    if not span.is_recording():
        return
    if access.route:
        span.update_name(access.route)
    facts = {
        "http.route": access.route,
        "eksml.tenant": access.tenant,
        "gen_ai.request.model": access.model,
        "gen_ai.usage.input_tokens": access.tokens_in,
        "gen_ai.usage.output_tokens": access.tokens_out,
        "eksml.ttft_s": access.ttft_s,
        "error.type": access.error,
    }
    span.set_attributes({name: value for name, value in facts.items() if value not in (None, "")})
    if access.error and not 400 <= access.status < 500:  # in the middle of a stream it is 200
        span.set_status(trace.StatusCode.ERROR, access.error)


class _Traced:
    def __init__(self, app: ASGIApp, tracer: Any) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) in QUIET:
            await self._app(scope, receive, send)
            return
        from opentelemetry import propagate, trace

        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _CARRIED
        }
        span = self._tracer.start_span(
            "request",  # no path: it would be a new name for each stranger's guess
            context=propagate.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "url.path": path_of(scope)},
        )
        with trace.use_span(span, end_on_exit=True):
            own: dict[str, str] = {}
            propagate.inject(own)
            inner = {**scope, "headers": _with(scope["headers"], own)}
            await self._app(inner, receive, _telling(send, span))


def _with(headers: Iterable[tuple[bytes, bytes]], own: Mapping[str, str]) -> list[Any]:
    kept = [(name, value) for name, value in headers if name not in _CARRIED]
    return kept + [(name.encode(), value.encode()) for name, value in own.items()]


def _telling(send: Send, span: Any) -> Send:
    from opentelemetry.trace import StatusCode

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return telling


def _tracer(service: str, to: str, how: str) -> Any:
    try:
        from opentelemetry import trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(to, how)
    except ImportError as error:
        raise MissingExtra(
            "Spans are asked for by OTEL_EXPORTER_OTLP_ENDPOINT, and OpenTelemetry is not "
            "installed: pip install opentelemetry-sdk opentelemetry-exporter-otlp"
        ) from error
    resource = Resource.create()
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": service}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    # vLLM, which starts later, sends its spans of this process through the global one
    trace.set_tracer_provider(provider)
    return provider.get_tracer("eksml")


def _exporter(to: str, how: str) -> Any:
    if how == _HTTP:
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http

        return over_http.OTLPSpanExporter(endpoint=to)
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc

    return over_grpc.OTLPSpanExporter(endpoint=to)
