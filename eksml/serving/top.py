"""How the replicas behind an address do, from their ``/metrics``.

A balancer stands in front of the replicas, and each question reaches one of them. So it is asked
until no new ones answer, and each replica's numbers are compared with its own earlier ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eksml.errors import EksmlError, InvalidSpec, Problem
from eksml.observe import metrics as m
from eksml.observe.histogram import quantile
from eksml.observe.metrics import Metric

SAME_AGAIN = 3
"""So many answers in a row from replicas that are known already end a look."""
MOST_QUESTIONS = 24

_TIMEOUT_S = 10.0
_ADD_UP = (
    *("running", "waiting", "requests_per_s", "refused_per_s", "errors_per_s", "tokens_per_s"),
)


@dataclass(frozen=True)
class Page:
    """The numbers of one replica at one moment, summed over tenants."""

    replica: str
    model: str
    version: str
    at_s: float
    sums: Mapping[str, float]
    """Series → value."""
    buckets: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    """Histogram → upper bound → how many."""


@dataclass(frozen=True)
class Row:
    """How one replica does, between two pages of it; what is not known is None."""

    replica: str
    model: str
    version: str
    running: int
    waiting: int
    """In front of the engine and in it."""
    requests_per_s: float
    refused_per_s: float
    errors_per_s: float
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    token_p50_s: float | None
    tokens_per_s: float
    kv_use: float | None
    """0 to 1."""


class Watch:
    """Looks at the replicas behind an address, again and again.

    Args:
        url: The address of one model's application.
        fetch: Gives the text at a URL; raises OSError.
        clock: Seconds.
    """

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self._fetch = fetch or _get
        self._clock = clock
        self._before: dict[str, Page] = {}

    def look(self) -> list[Row]:
        """The replicas that answer now. Rates and times are of what happened since they were seen
        last, and all that they ever did at the first look.

        Raises:
            EksmlError: Nobody answers.
            InvalidSpec: What answers is no replica of ours.
        """
        pages = self._pages()
        rows = [row_between(self._before.get(page.replica), page) for page in pages.values()]
        self._before.update(pages)
        return sorted(rows, key=lambda row: (row.model, row.version, row.replica))

    def _pages(self) -> dict[str, Page]:
        found: dict[str, Page] = {}
        same = 0
        for _ in range(MOST_QUESTIONS):
            page = self._page()
            same = same + 1 if page.replica in found else 0
            found.setdefault(page.replica, page)
            if same == SAME_AGAIN:
                break
        return found

    def _page(self) -> Page:
        url = f"{self.url}/metrics"
        try:
            text = self._fetch(url)
        except (OSError, ValueError) as error:
            told = f"{url} does not answer: {error}. See that it is up, and reached from here."
            raise EksmlError(told) from error
        try:
            return read_page(text, self._clock())
        except ValueError as error:
            told = f"{url} holds no numbers of an eksml replica: {error}."
            problem = Problem("url", told, "Give the address of one model.")
            raise InvalidSpec([problem], "top") from error


def read_page(text: str, at_s: float) -> Page:
    """What a replica's ``/metrics`` says.

    Raises:
        ValueError: It is not one of ours.
    """
    from prometheus_client.parser import text_string_to_metric_families

    read = {series for metric in (*m.SERVING, *m.ENGINE) for series in metric.series}
    sums: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    who: Mapping[str, str] | None = None
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name not in read:
                continue
            if sample.name == m.REPLICA.name:
                who = sample.labels
            if "le" in sample.labels:
                counts = buckets.setdefault(family.name, {})
                bound = float(sample.labels["le"])
                counts[bound] = counts.get(bound, 0) + sample.value
            elif sample.name == m.KV_USE.name:  # of several engines the fullest
                sums[sample.name] = max(sums.get(sample.name, 0), sample.value)
            else:
                sums[sample.name] = sums.get(sample.name, 0) + sample.value
    if who is None:
        raise ValueError(f"there is no {m.REPLICA.name}")
    return Page(who["replica"], who["model"], who["version"], at_s, sums, buckets)


def row_between(before: Page | None, now: Page) -> Row:
    """What a replica did between two pages; since its start if there is no earlier one."""

    def per_s(metric: Metric) -> float:
        if before is None:
            return 0.0
        grown = _sum(now, metric) - _sum(before, metric)
        return max(grown, 0.0) / max(now.at_s - before.at_s, 1e-6)

    def part(share: float, metric: Metric) -> float | None:
        earlier = before.buckets.get(metric.name, {}) if before else {}
        counts = now.buckets.get(metric.name, {})
        return quantile(share, {b: count - earlier.get(b, 0) for b, count in counts.items()})

    return Row(
        replica=now.replica,
        model=now.model,
        version=now.version,
        running=int(_sum(now, m.RUNNING) - _sum(now, m.WAITING)),
        waiting=int(_sum(now, m.WAITING) + _sum(now, m.ENGINE_WAITING)),
        requests_per_s=per_s(m.REQUESTS),
        refused_per_s=per_s(m.REFUSED),
        errors_per_s=per_s(m.ERRORS),
        ttft_p50_s=part(0.5, m.TTFT),
        ttft_p99_s=part(0.99, m.TTFT),
        token_p50_s=part(0.5, m.TOKEN_TIME),
        tokens_per_s=per_s(m.TOKENS_OUT),
        kv_use=now.sums.get(m.KV_USE.name),
    )


def _sum(page: Page, metric: Metric) -> float:
    return page.sums.get(metric.series[0], 0.0)


def _get(url: str) -> str:
    import httpx

    try:
        # A connection of its own each time: the balancer chooses anew
        answer = httpx.get(url, timeout=_TIMEOUT_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(str(error) or type(error).__name__) from error
    return answer.text


def totals(rows: Iterable[Row]) -> dict[str, Any]:
    """What adds up over replicas."""
    rows = list(rows)
    names = (
        "running",
        "waiting",
        "requests_per_s",
        "refused_per_s",
        "errors_per_s",
        "tokens_per_s",
    )
    return {name: sum(getattr(row, name) for row in rows) for name in names}
