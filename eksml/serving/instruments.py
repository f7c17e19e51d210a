"""Where numbers go: to a replica's own ``/metrics``, and to Ray's agent on the node."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

from eksml.observe.metrics import Metric

_WRITES = {"counter": "inc", "gauge": "set", "histogram": "observe"}
"""The method that takes a number, of prometheus_client's classes as of Ray's."""


class Instruments(Protocol):
    """Takes numbers. Neither blocks nor raises."""

    def record(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Add to a counter (more than 0), set a gauge, or observe in a histogram.

        ``labels`` are values, in the metric's order.
        """


class Page:
    """Numbers that a process shows in a registry of prometheus_client."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry
        self._metrics: dict[Metric, Any] = {}
        self._writes: dict[tuple[Metric, tuple[str, ...]], Callable[[float], None]] = {}

    def record(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Take a number."""
        # prometheus_client's own lookup of labels takes a lock, and longer than all the rest
        write = self._writes.get((metric, labels))
        if write is None:
            if metric not in self._metrics:
                self._metrics[metric] = self._made(metric)
            write = getattr(self._metrics[metric].labels(*labels), _WRITES[metric.kind])
            self._writes[metric, labels] = write
        write(value)

    def _made(self, metric: Metric) -> Any:
        import prometheus_client

        kind = getattr(prometheus_client, metric.kind.capitalize())
        more = {"buckets": metric.buckets} if metric.buckets else {}
        return kind(metric.name, metric.text, metric.labels, registry=self._registry, **more)


@functools.cache
def own_page() -> Page:
    """The page of this process, on which vLLM's numbers stand, too: its ``/metrics``."""
    import prometheus_client

    return Page(prometheus_client.REGISTRY)


class RayAgents:
    """Numbers that Ray's agent of the node shows to Prometheus, from every process on it."""

    def __init__(self) -> None:
        self._metrics: dict[Metric, Any] = {}

    def record(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Take a number."""
        made = self._metrics.get(metric)
        if made is None:
            made = self._metrics[metric] = _ray_metric(metric)
        tags = dict(zip(metric.labels, labels, strict=True))
        getattr(made, _WRITES[metric.kind])(value, tags=tags)


def _ray_metric(metric: Metric) -> Any:
    from ray.util import metrics

    kind = getattr(metrics, metric.kind.capitalize())
    more = {"boundaries": list(metric.buckets)} if metric.buckets else {}
    return kind(metric.name, description=metric.text, tag_keys=metric.labels, **more)
