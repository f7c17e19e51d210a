"""Small pieces of PromQL that dashboards and alerts are put together from."""

from __future__ import annotations

from eksml.observe.metrics import Metric


def value(metric: Metric, match: str = "") -> str:
    """A gauge's series, or a counter's."""
    return _selected(metric.ray_series[0], match)


def rate(metric: Metric, match: str = "", over: str = "$__rate_interval") -> str:
    """How much a counter grows a second."""
    return f"rate({value(metric, match)}[{over}])"


def total(expression: str, *by: str) -> str:
    """The sum over everything but the labels."""
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def quantile(
    part: float, metric: Metric, *by: str, match: str = "", over: str = "$__rate_interval"
) -> str:
    """A quantile of a histogram, over everything but the labels."""
    grown = f"rate({_selected(metric.ray_series[0], match)}[{over}])"
    return f"histogram_quantile({part}, {total(grown, 'le', *by)})"


def mean(metric: Metric, *by: str, match: str = "", over: str = "$__rate_interval") -> str:
    """A histogram's mean, over everything but the labels."""
    _, sums, counts = (_selected(name, match) for name in metric.ray_series)
    return f"{total(f'rate({sums}[{over}])', *by)} / {total(f'rate({counts}[{over}])', *by)}"


def _selected(name: str, match: str) -> str:
    return f"{name}{{{match}}}" if match else name
