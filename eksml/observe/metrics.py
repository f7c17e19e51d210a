"""Every metric of eksml's own: its name, its kind, its labels, and how Prometheus shows it.

There are two ways to Prometheus. Ray's agent on each node shows what all of the node's processes
count, with ``ray_`` before each name; that is what a PodMonitor reads, and what dashboards and
alerts ask for. A replica's own ``/metrics`` shows its numbers under the plain names, beside those
of its vLLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

_SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}


@dataclass(frozen=True)
class Metric:
    """One metric. ``buckets`` are the upper bounds of a histogram, in its unit."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series at a replica's ``/metrics``."""
        return tuple(self.name + suffix for suffix in _SUFFIXES[self.kind])

    @property
    def ray_series(self) -> tuple[str, ...]:
        """The names of its series at Ray's agents; ``:`` in a name becomes ``_`` there."""
        return tuple("ray_" + name.replace(":", "_") for name in self.series)


_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TOKEN = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0)
_WHOLE = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)
_OF_A_MODEL = ("model", "version", "tenant")

REQUESTS = Metric(
    "eksml_serve_requests",
    "counter",
    "Requests that ended, by the status that was sent; 499 when the client went away.",
    (*_OF_A_MODEL, "route", "status"),
)
ERRORS = Metric(
    "eksml_serve_errors",
    "counter",
    "Requests that failed by no fault of their own: 5xx, or an error in the middle of a stream.",
    (*_OF_A_MODEL, "code"),
)
REFUSED = Metric(
    "eksml_serve_refused",
    "counter",
    "Requests that were turned away before the engine saw them, by reason.",
    (*_OF_A_MODEL, "reason"),
)
RUNNING = Metric(
    "eksml_serve_requests_running",
    "gauge",
    "Requests that were let in and have not ended.",
    _OF_A_MODEL,
)
WAITING = Metric(
    "eksml_serve_requests_waiting",
    "gauge",
    "Requests that wait for a slot in front of the engine.",
    _OF_A_MODEL,
)
WAIT = Metric(
    "eksml_serve_wait_seconds",
    "histogram",
    "How long requests waited for a slot.",
    _OF_A_MODEL,
    _FAST,
)
TTFT = Metric(
    "eksml_serve_ttft_seconds",
    "histogram",
    "From a request's arrival to the first byte of its stream.",
    _OF_A_MODEL,
    _FAST,
)
TOKEN_TIME = Metric(
    "eksml_serve_token_seconds",
    "histogram",
    "Mean time between the tokens of one streamed answer.",
    _OF_A_MODEL,
    _TOKEN,
)
REQUEST_TIME = Metric(
    "eksml_serve_request_seconds",
    "histogram",
    "From a request's arrival to its last byte.",
    _OF_A_MODEL,
    _WHOLE,
)
TOKENS_IN = Metric("eksml_serve_tokens_in", "counter", "Tokens of prompts.", _OF_A_MODEL)
TOKENS_OUT = Metric("eksml_serve_tokens_out", "counter", "Tokens of answers.", _OF_A_MODEL)

REPLICA = Metric(
    "eksml_serve_replica",
    "gauge",
    "1 for each replica that is there.",
    ("model", "version", "replica"),
)

SERVING = (
    *(REPLICA, REQUESTS, ERRORS, REFUSED, RUNNING, WAITING, WAIT),
    *(TTFT, TOKEN_TIME, REQUEST_TIME, TOKENS_IN, TOKENS_OUT),
)
"""What a replica of a model counts, beside its engine."""

_OF_A_STEP = ("run", "step")

EVENTS_IN = Metric(
    "eksml_stream_events_in", "gauge", "Events that a step of a stream has taken.", _OF_A_STEP
)
EVENTS_OUT = Metric(
    "eksml_stream_events_out", "gauge", "Events that a step of a stream has given.", _OF_A_STEP
)
LATE = Metric(
    "eksml_stream_late", "gauge", "Events that came after their last window had ended.", _OF_A_STEP
)
DEAD = Metric("eksml_stream_dead", "gauge", "Events that went to the dead letters.", _OF_A_STEP)
LAG = Metric(
    "eksml_stream_lag_s", "gauge", "How far event time at a step lies behind the clock.", _OF_A_STEP
)

STATE = Metric(
    "eksml_stream_state_bytes",
    "gauge",
    "Bytes of memory that the state of a step takes, about.",
    _OF_A_STEP,
)
STATE_ON_DISK = Metric(
    "eksml_stream_disk_bytes",
    "gauge",
    "Bytes of the local disk that the state of a step takes.",
    _OF_A_STEP,
)

STREAMS = (EVENTS_IN, EVENTS_OUT, LATE, DEAD, LAG, STATE, STATE_ON_DISK)
"""What a stream tells of its steps. They are gauges, since a restart may set counts back."""

_OF_AN_ENGINE = ("model_name", "engine")

ENGINE_RUNNING = Metric("vllm:num_requests_running", "gauge", "", _OF_AN_ENGINE)
ENGINE_WAITING = Metric("vllm:num_requests_waiting", "gauge", "", _OF_AN_ENGINE)
KV_USE = Metric("vllm:kv_cache_usage_perc", "gauge", "", _OF_AN_ENGINE)
PREFIX_QUERIES = Metric("vllm:prefix_cache_queries", "counter", "", _OF_AN_ENGINE)
PREFIX_HITS = Metric("vllm:prefix_cache_hits", "counter", "", _OF_AN_ENGINE)
PREEMPTIONS = Metric("vllm:num_preemptions", "counter", "", _OF_AN_ENGINE)
INTER_TOKEN = Metric("vllm:inter_token_latency_seconds", "histogram", "", _OF_AN_ENGINE)
ENGINE_QUEUE = Metric("vllm:request_queue_time_seconds", "histogram", "", _OF_AN_ENGINE)
PROMPT_TOKENS = Metric("vllm:prompt_tokens", "counter", "", _OF_AN_ENGINE)
GENERATED_TOKENS = Metric("vllm:generation_tokens", "counter", "", _OF_AN_ENGINE)

ENGINE = (
    *(ENGINE_RUNNING, ENGINE_WAITING, KV_USE, PREFIX_QUERIES, PREFIX_HITS, PREEMPTIONS),
    *(INTER_TOKEN, ENGINE_QUEUE, PROMPT_TOKENS, GENERATED_TOKENS),
)
"""Those of vLLM's own metrics that dashboards, alerts and ``eksml top`` read."""

HEALTHY = Metric(
    "serve_deployment_replica_healthy", "gauge", "", ("application", "deployment", "replica")
)
"""Ray Serve's own: 1 for each replica whose health check passes."""

ALL = (*SERVING, *STREAMS, *ENGINE, HEALTHY)
