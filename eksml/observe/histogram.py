"""Quantiles of Prometheus' histograms, as its own ``histogram_quantile`` estimates them."""

from __future__ import annotations

from collections.abc import Mapping


def quantile(part: float, counts: Mapping[float, float]) -> float | None:
    """The value below which ``part`` of the observations lie.

    Within a bucket they are taken to lie evenly; those over the highest finite bound count as that
    bound.

    Args:
        part: 0 to 1.
        counts: Upper bound → how many observations are at most that; the last bound is infinite.

    Returns:
        None if there are no observations.
    """
    bounds = sorted(counts)
    if not bounds or not counts[bounds[-1]] > 0:
        return None
    rank = part * counts[bounds[-1]]
    below_bound, below = 0.0, 0.0
    for bound in bounds[:-1]:
        if counts[bound] >= rank and counts[bound] > below:
            inside = (rank - below) / (counts[bound] - below)
            return below_bound + (bound - below_bound) * inside
        below_bound, below = bound, counts[bound]
    return below_bound
