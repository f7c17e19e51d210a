"""What the dashboards show, in the order in which an operator asks."""

from __future__ import annotations

from eksml.observe import metrics as m
from eksml.observe.grafana import Dashboard, Panel, Variable
from eksml.observe.promql import mean, quantile, rate, total, value

_CLUSTER = Variable("cluster", m.HEALTHY.ray_series[0], "ray_io_cluster")
_HERE = 'ray_io_cluster=~"$cluster"'
_OF_MODEL = f'{_HERE},model=~"$model"'
_ASKED = f'{_OF_MODEL},tenant=~"$tenant"'
_ENGINE = f'{_HERE},model_name=~"$model"'
_STREAM = f'{_HERE},run=~"$run"'


def _quantiles(metric: m.Metric, match: str, *by: str) -> tuple[tuple[str, str], ...]:
    names = " ".join(f"{{{{{label}}}}}" for label in by)
    return tuple(
        (quantile(part, metric, *by, match=match), f"p{part * 100:g} {names}".strip())
        for part in (0.5, 0.99)
    )


def _by(metric: m.Metric, match: str, label: str) -> tuple[tuple[str, str], ...]:
    return ((total(rate(metric, match), label), f"{{{{{label}}}}}"),)


_REQUESTS = (
    Panel(
        "Requests by status",
        "reqps",
        _by(m.REQUESTS, _ASKED, "status"),
        "Requests that ended; 499: the client went away first.",
    ),
    Panel(
        "Turned away",
        "reqps",
        _by(m.REFUSED, _ASKED, "reason"),
        "Requests that the engine never saw, by reason.",
    ),
    Panel(
        "Errors",
        "reqps",
        _by(m.ERRORS, _ASKED, "code"),
        "Requests that failed by no fault of their own: 5xx, or an error in mid-stream.",
    ),
)
_LATENCY = (
    Panel(
        "Time to first token",
        "s",
        _quantiles(m.TTFT, _ASKED, "model", "version"),
        "From a request's arrival at its replica to the first byte of its stream.",
    ),
    Panel(
        "Time between tokens",
        "s",
        _quantiles(m.TOKEN_TIME, _ASKED, "model", "version"),
        "Mean of each answer, over answers. vLLM's own, below, is over single tokens.",
    ),
    Panel(
        "Whole request",
        "s",
        _quantiles(m.REQUEST_TIME, _ASKED, "model", "version"),
        "From a request's arrival to its last byte.",
    ),
)
_LOAD = (
    Panel(
        "In the replicas",
        "short",
        (
            (total(value(m.RUNNING, _ASKED), "model"), "let in {{model}}"),
            (total(value(m.WAITING, _ASKED), "model"), "waiting at the gate {{model}}"),
        ),
        "Requests that were let in and have not ended, and those of them that wait for a slot.",
    ),
    Panel(
        "Wait for a slot",
        "s",
        _quantiles(m.WAIT, _ASKED, "tenant"),
        "How long requests waited at the gate, by tenant: fair shares look alike.",
    ),
    Panel(
        "Replicas",
        "short",
        (
            (total(value(m.HEALTHY, _HERE), "application"), "healthy {{application}}"),
            (total(value(m.REPLICA, _OF_MODEL), "model", "version"), "there {{model}} {{version}}"),
        ),
        "Replicas whose health check passes, and all that are there, by version.",
    ),
)
_TOKENS = (
    Panel(
        "Tokens of answers a second",
        "short",
        _by(m.TOKENS_OUT, _ASKED, "tenant"),
        "By tenant.",
    ),
    Panel(
        "Tokens of prompts a second",
        "short",
        _by(m.TOKENS_IN, _ASKED, "tenant"),
        "By tenant.",
    ),
    Panel(
        "Requests by version",
        "reqps",
        _by(m.REQUESTS, _ASKED, "version"),
        "A rollout is seen here: requests move from one version to the next.",
    ),
)
_INSIDE = (
    Panel(
        "KV cache in use",
        "percentunit",
        ((f"max by (model_name) ({value(m.KV_USE, _ENGINE)})", "{{model_name}}"),),
        "Of the fullest replica. Near 1 the engine throws out sequences and computes them again.",
    ),
    Panel(
        "Prompts found in the cache",
        "percentunit",
        (
            (
                f"{total(rate(m.PREFIX_HITS, _ENGINE), 'model_name')} / "
                f"{total(rate(m.PREFIX_QUERIES, _ENGINE), 'model_name')}",
                "{{model_name}}",
            ),
        ),
        "Part of prompt tokens whose keys and values were there already.",
    ),
    Panel(
        "Sequences thrown out",
        "short",
        _by(m.PREEMPTIONS, _ENGINE, "model_name"),
        "A second; each is computed again.",
    ),
    Panel(
        "Sequences in the engine",
        "short",
        (
            (total(value(m.ENGINE_RUNNING, _ENGINE), "model_name"), "running {{model_name}}"),
            (total(value(m.ENGINE_WAITING, _ENGINE), "model_name"), "waiting {{model_name}}"),
        ),
        "As vLLM's scheduler has them.",
    ),
    Panel(
        "Between single tokens",
        "s",
        _quantiles(m.INTER_TOKEN, _ENGINE, "model_name"),
        "vLLM's inter-token latency.",
    ),
    Panel(
        "Wait in the engine",
        "s",
        ((mean(m.ENGINE_QUEUE, "model_name", match=_ENGINE), "mean {{model_name}}"),),
        "From the engine's intake to its first computation.",
    ),
)

SERVING = Dashboard(
    uid="eksml-serving",
    title="eksml / serving",
    variables=(
        _CLUSTER,
        Variable("model", m.REQUESTS.ray_series[0], "model"),
        Variable("tenant", m.REQUESTS.ray_series[0], "tenant"),
    ),
    rows=(
        ("Requests", _REQUESTS),
        ("Latency", _LATENCY),
        ("Load", _LOAD),
        ("Tokens", _TOKENS),
        ("Inside vLLM", _INSIDE),
    ),
)


def _events(metric: m.Metric) -> tuple[tuple[str, str], ...]:
    # A gauge, which a restart may set back: its slope, never below nothing
    slope = f"clamp_min(deriv({value(metric, _STREAM)}[$__rate_interval]), 0)"
    return ((total(slope, "run", "step"), "{{run}} {{step}}"),)


def _bytes(metric: m.Metric) -> tuple[tuple[str, str], ...]:
    return ((total(value(metric, _STREAM), "run", "step"), "{{run}} {{step}}"),)


STREAMS = Dashboard(
    uid="eksml-streams",
    title="eksml / streams",
    variables=(_CLUSTER, Variable("run", m.EVENTS_IN.ray_series[0], "run")),
    rows=(
        (
            "Events",
            (
                Panel("Taken", "eps", _events(m.EVENTS_IN), "Events that each step takes."),
                Panel("Given", "eps", _events(m.EVENTS_OUT), "Events that each step gives."),
                Panel(
                    "Lag",
                    "s",
                    ((f"max by (run, step) ({value(m.LAG, _STREAM)})", "{{run}} {{step}}"),),
                    "How far event time lies behind the clock.",
                ),
            ),
        ),
        (
            "Losses",
            (
                Panel("Late", "short", _events(m.LATE), "Events after their last window's end."),
                Panel("Dead letters", "short", _events(m.DEAD), "Events that could not be done."),
            ),
        ),
        (
            "State",
            (
                Panel("In memory", "bytes", _bytes(m.STATE), "What each step's state takes."),
                Panel(
                    "On disk",
                    "bytes",
                    _bytes(m.STATE_ON_DISK),
                    "What has no room in memory: more than nothing makes a step slower.",
                ),
            ),
        ),
    ),
)

ALL = {"serving.json": SERVING, "streams.json": STREAMS}
"""File name → dashboard."""
