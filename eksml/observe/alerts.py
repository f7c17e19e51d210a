"""When to tell somebody: rules for the Prometheus operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eksml.observe import metrics as m
from eksml.observe.promql import quantile, rate, total, value

_OVER = "5m"


@dataclass(frozen=True)
class Alert:
    """A condition that has held for a while, what it means, and what to do."""

    name: str
    expression: str
    held: str
    severity: str
    summary: str
    remedy: str


_RUNNING = total(value(m.RUNNING), "model")
_ENDED = total(rate(m.REQUESTS, over=_OVER), "model")
# A tenant beyond its own limits, or a wrong request, is no lack of replicas
_REFUSED = total(rate(m.REFUSED, 'reason=~"queue_full|engine_unavailable"', _OVER), "model")
_PREEMPTED = total(rate(m.PREEMPTIONS, over=_OVER), "model_name")

SERVING = (
    Alert(
        "EksmlServeFails",
        f"{total(rate(m.ERRORS, over=_OVER), 'model')} / {_ENDED} > 0.02",
        "5m",
        "critical",
        "More than 2 % of the requests to {{ $labels.model }} fail.",
        "See «Errors» on the dashboard eksml / serving for their codes, then the replicas' logs.",
    ),
    Alert(
        "EksmlServeHangs",
        f"{_RUNNING} > 0 unless {_ENDED} > 0",
        "10m",
        "critical",
        "Requests to {{ $labels.model }} are under way and none has ended for ten minutes.",
        "Replace its replicas; an engine that hangs should have been replaced by its health check.",
    ),
    Alert(
        "EksmlServeNoReplica",
        f"{total(value(m.HEALTHY), 'application', 'deployment')} == 0",
        "2m",
        "critical",
        "No replica of {{ $labels.application }} / {{ $labels.deployment }} is healthy.",
        "See `serve status` and the pods' events: no node may fit, or the model may not load.",
    ),
    Alert(
        "EksmlServeSlowFirstToken",
        f"{quantile(0.99, m.TTFT, 'model', over=_OVER)} > 5",
        "10m",
        "warning",
        "1 % of the streams of {{ $labels.model }} wait for more than 5 s for their first token.",
        "See «Load»: raise the most replicas if requests wait, shorten prompts if they don't.",
    ),
    Alert(
        "EksmlServeOverloaded",
        f"{_REFUSED} / ({_REFUSED} + {_ENDED}) > 0.1",
        "10m",
        "warning",
        "More than 10 % of the requests to {{ $labels.model }} find no room.",
        "Raise its most replicas; «Wait for a slot» shows which tenants fill the queue.",
    ),
    Alert(
        "EksmlServeCacheFull",
        f"max by (model_name) ({value(m.KV_USE)}) > 0.95 and {_PREEMPTED} > 0",
        "10m",
        "warning",
        "The KV cache of {{ $labels.model_name }} is full and sequences are computed twice.",
        "Lower max_num_seqs or max_model_len, or give it more memory or replicas.",
    ),
)

STREAMS = (
    Alert(
        "EksmlStreamLags",
        f"max by (run, step) ({value(m.LAG)}) > 300",
        "10m",
        "warning",
        "{{ $labels.run }} is more than five minutes behind at {{ $labels.step }}.",
        "See `eksml top {{ $labels.run }}`: the busiest step is the one to give more tasks.",
    ),
    Alert(
        "EksmlStreamDeadLetters",
        f"max by (run, step) (delta({value(m.DEAD)}[15m])) > 0",
        "0m",
        "warning",
        "{{ $labels.step }} of {{ $labels.run }} has put events to the dead letters.",
        "Read them where the run keeps them; mend the function, or the source.",
    ),
)

ALL = (*SERVING, *STREAMS)


def prometheus_rule(name: str = "eksml") -> dict[str, Any]:
    """The PrometheusRule with every alert."""
    groups = (("eksml-serving", SERVING), ("eksml-streams", STREAMS))
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "eksml"}},
        "spec": {
            "groups": [
                {"name": group, "rules": [_rule(alert) for alert in alerts]}
                for group, alerts in groups
            ]
        },
    }


def _rule(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.held,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.remedy},
    }
