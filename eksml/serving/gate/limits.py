"""Requests and tokens per minute, tenant by tenant: token buckets with a given clock.

A bucket holds a minute's worth and fills evenly. Who finds it as full as it asks (or wholly full)
may take from it, even below zero: so a request that is larger than this replica's share of a minute
passes once, and the mean holds. Tokens are taken by estimate before, settled by the count after.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from eksml.serving.gate.asgi import Headers
from eksml.serving.gate.errors import Refused
from eksml.serving.spec import TenantSpec

_MINUTE_S = 60.0


class Bucket:
    """What may still be taken of something that is given by the minute."""

    def __init__(self, per_minute: float, now_s: float) -> None:
        self.size = per_minute
        self.level = per_minute
        self._at_s = now_s

    def fill(self, per_minute: float, now_s: float) -> None:
        """Let time pass; the rate may have changed."""
        self.size = per_minute
        gained = (now_s - self._at_s) * per_minute / _MINUTE_S
        self.level = min(self.level + gained, per_minute)
        self._at_s = now_s

    def wait_s(self, cost: float) -> float:
        """Seconds until so much may be taken; 0: now."""
        missing = min(cost, self.size) - self.level
        return max(missing, 0.0) * _MINUTE_S / self.size

    def full_s(self) -> float:
        """Seconds until it is full."""
        return (self.size - self.level) * _MINUTE_S / self.size


@dataclass(slots=True)
class Reservation:
    """Tokens that were taken for a request. ``settle`` it once, however the request ends."""

    bucket: Bucket | None
    tokens: int

    def settle(self, used: int) -> None:
        """Give back what was not used, or take what was used beyond it."""
        if self.bucket is not None:
            self.bucket.level = min(self.bucket.level + self.tokens - used, self.bucket.size)


class Limits:
    """The buckets of all tenants on this replica.

    Args:
        clock: Seconds.
        share: This replica's part of each tenant's limits: 1 / replicas. No replica asks another,
            so a tenant whose requests go to few of many replicas gets less than its limits; with
            requests spread evenly, as the proxy does, it gets them.
    """

    def __init__(self, clock: Callable[[], float], share: Callable[[], float]) -> None:
        self._clock = clock
        self._share = share
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def take(self, tenant: TenantSpec, tokens: int) -> Reservation:
        """Count a request of about so many tokens.

        Raises:
            Refused: 429, with when to come again; nothing was taken.
        """
        requests, volume = self._of(tenant)
        for what, bucket, cost in (("requests", requests, 1), ("tokens", volume, tokens)):
            if bucket is not None and (wait_s := bucket.wait_s(cost)) > 0:
                raise self._refused(tenant, what, cost, wait_s)
        if requests is not None:
            requests.level -= 1
        if volume is not None:
            volume.level -= tokens
        return Reservation(volume, tokens)

    def headers(self, tenant: TenantSpec) -> Headers:
        """OpenAI's ``x-ratelimit-*``, of the limits that the tenant has: this replica's share."""
        told: Headers = []
        for what, bucket in zip((b"requests", b"tokens"), self._of(tenant), strict=True):
            if bucket is not None:
                left = max(math.floor(bucket.level), 0)
                told += [
                    (b"x-ratelimit-limit-" + what, b"%d" % max(bucket.size, 1)),
                    (b"x-ratelimit-remaining-" + what, b"%d" % left),
                    (b"x-ratelimit-reset-" + what, b"%.3fs" % bucket.full_s()),
                ]
        return told

    def _of(self, tenant: TenantSpec) -> tuple[Bucket | None, Bucket | None]:
        return (
            self._bucket(tenant.name, "requests", tenant.requests_per_minute),
            self._bucket(tenant.name, "tokens", tenant.tokens_per_minute),
        )

    def _bucket(self, name: str, what: str, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        mine, now_s = per_minute * self._share(), self._clock()
        bucket = self._buckets.get((name, what))
        if bucket is None:
            bucket = self._buckets[name, what] = Bucket(mine, now_s)
        bucket.fill(mine, now_s)
        return bucket

    def _refused(self, tenant: TenantSpec, what: str, cost: int, wait_s: float) -> Refused:
        limit = tenant.requests_per_minute if what == "requests" else tenant.tokens_per_minute
        told = f"{tenant.name} has reached its limit of {limit:,} {what} per minute"
        if what == "tokens":
            told += f" (this request may take {cost:,})"
        message = f"{told}. Try again in {wait_s:.1f} s."
        seconds = max(math.ceil(wait_s), 1)
        headers = self.headers(tenant)
        return Refused(429, "rate_limit_exceeded", message, retry_after_s=seconds, headers=headers)
