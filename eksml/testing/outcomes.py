"""What became of the requests of a load: each one is counted, none is forgiven."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Outcome(StrEnum):
    """How one request ended, as its client saw it. Each request has exactly one."""

    OK = "ok"
    """The whole answer, with as many tokens as were asked for."""
    REFUSED = "refused"
    """429, or 503 with Retry-After, before any work was done."""
    FAILED = "failed"
    """Another status, or the connection broke, before the first byte of an answer."""
    ERROR_EVENT = "error event"
    """A stream that had begun and ended with an error event."""
    BROKEN = "broken"
    """An answer that had begun, and whose connection then broke: the client's library raises."""
    TRUNCATED = "truncated"
    """Ended as if all were well, but something is missing: the worst of all."""
    HUNG = "hung"
    """Not ended within the load's timeout."""
    LEFT = "left"
    """The client hung up, as the load told it to."""


CUT = (Outcome.ERROR_EVENT, Outcome.BROKEN, Outcome.TRUNCATED)
"""Answers that had begun, and did not end well."""


@dataclass(frozen=True)
class Sent:
    """One request and its end; times in seconds since the load began."""

    number: int
    began: float
    """When it was due: an open loop that falls behind does not hide it."""
    ended: float
    outcome: Outcome
    stream: bool
    status: int | None = None
    """Of HTTP; None: no answer came."""
    ttft_s: float | None = None
    """From ``began`` to the first chunk with text (streams), or the first byte (others)."""
    itl_s: tuple[float, ...] = ()
    """Between chunks of a stream; a server may put several tokens into one."""
    tokens: int = 0
    """Generated, as the server's usage says."""
    detail: str = ""
    """What a person wants to know of a bad end."""

    @property
    def e2e_s(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Report:
    """All requests of one load."""

    sent: tuple[Sent, ...]
    seconds: float
    """From the load's begin to the end of its last request."""
    seed: int

    def count(self, *outcomes: Outcome) -> int:
        """Requests that ended in one of these ways."""
        counts = Counter(each.outcome for each in self.sent)
        return sum(counts[outcome] for outcome in outcomes)

    @property
    def lost(self) -> list[Sent]:
        """Requests that were neither answered, nor refused, nor left by their client."""
        fine = (Outcome.OK, Outcome.REFUSED, Outcome.LEFT)
        return [each for each in self.sent if each.outcome not in fine]

    def having(self, *outcomes: Outcome) -> list[Sent]:
        """The requests that ended in one of these ways."""
        return [each for each in self.sent if each.outcome in outcomes]

    @property
    def longest_gap_s(self) -> float:
        """The longest time without an answer, from the load's begin to its last answer."""
        ends = sorted(each.ended for each in self.having(Outcome.OK))
        return max((b - a for a, b in pairwise([0.0, *ends])), default=math.inf)

    @property
    def requests_per_s(self) -> float:
        """Answered ones: goodput."""
        return self.count(Outcome.OK) / self.seconds

    @property
    def tokens_per_s(self) -> float:
        return sum(each.tokens for each in self.having(Outcome.OK)) / self.seconds

    def ttft_s(self, quantile: float) -> float:
        """Over answered requests; NaN if there is none."""
        times = [each.ttft_s for each in self.having(Outcome.OK) if each.ttft_s is not None]
        return quantile_of(times, quantile)

    def itl_s(self, quantile: float) -> float:
        """Over all chunks of answered streams; NaN if there is none."""
        return quantile_of([t for each in self.having(Outcome.OK) for t in each.itl_s], quantile)

    def e2e_s(self, quantile: float, *outcomes: Outcome) -> float:
        """Over requests that ended in one of these ways, by default answered ones."""
        wanted = self.having(*(outcomes or (Outcome.OK,)))
        return quantile_of([each.e2e_s for each in wanted], quantile)

    def __str__(self) -> str:
        counts = Counter(each.outcome for each in self.sent)
        ends = ", ".join(f"{counts[each]} {each}" for each in Outcome if counts[each])
        lines = [
            f"{len(self.sent)} sent in {self.seconds:.1f} s (seed {self.seed}): {ends}",
            f"{self.requests_per_s:.1f} answers/s, {self.tokens_per_s:.0f} tokens/s, "
            f"longest gap {self.longest_gap_s:.2f} s",
        ]
        if refused := Counter(each.status for each in self.having(Outcome.REFUSED)):
            statuses = ", ".join(f"{count} × {status}" for status, count in refused.items())
            lines.append(f"refused with {statuses}")
        for name in ("ttft_s", "itl_s", "e2e_s"):
            p50, p99 = (getattr(self, name)(q) * 1000 for q in (0.5, 0.99))
            lines.append(f"{name.removesuffix('_s')} p50 {p50:.1f} ms, p99 {p99:.1f} ms")
        lines += [
            f"request {each.number} at {each.began:.2f} s, {each.e2e_s:.2f} s long: "
            f"{each.outcome}, status {each.status}: {each.detail}"
            for each in self.lost[:10]
        ]
        return "\n".join(lines)


def quantile_of(values: list[float], quantile: float) -> float:
    """The smallest value that at least ``quantile`` of them do not exceed; NaN of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(quantile * len(values)) - 1)]
