"""How many replicas a model wants: a policy for Serve's autoscaler, and what replicas tell it.

Serve asks the policy ten times a second. Of what it knows by itself, the policy takes the requests
under way, those that wait included; replicas add (``record_autoscaling_stats``) how full their KV
cache is and how long first tokens took of late. The first two say at once how many replicas the
load needs. The third cannot: it only says that it was too slow. So the policy learns from it how
many requests are too many for a replica, and goes by that for an hour.

Rows of batches are no requests: replicas fetch them when they have nothing better to do. So nobody
asks for a model that has none, and an open batch counts as one replica's work (``Waiting``).

Serve itself waits ``upscale_delay_s`` and ``downscale_delay_s`` before it does what the policy
wants without pause, and keeps to the smallest and largest number of replicas.
"""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

METRICS_INTERVAL_S = 0.25
"""How often replicas and proxies tell their load."""
LOOK_BACK_S = 1.0
"""Over which Serve takes the mean of it. With these two and Serve's control loop of 0.1 s the
policy has seen a step in load, and decided, within 1 s; Serve's own are 10 s and 30 s."""
SLACK = 0.8
"""A replica is given up when the others would be no fuller than this. Load that wavers by a tenth
to either side therefore never has replicas come and go."""
STEP = 4
"""So many replicas, or as many as run, may be started at once; the next when those run."""
WINDOW_S = 15.0
"""Over which a replica's first tokens count."""
ENOUGH = 5
"""First tokens in the window below which their median says nothing."""
SETTLE_S = 2 * WINDOW_S
"""After the last new replica took its first request, or an old one ended, the times of first tokens
say nothing for so long."""
REMEMBER_S = 3600.0
"""How long it is remembered how many requests were too many."""


@dataclass(frozen=True)
class Targets:
    """What each replica should be loaded with."""

    requests: float
    """Under way and waiting, together."""
    ttft_s: float | None = None
    """Longest median time to the first token; None: it does not matter."""
    kv: float = 0.85
    """Share of the KV cache."""

    def but(self, slow: Slow | None) -> Targets:
        """The same, or fewer requests if fewer were too many."""
        if slow is None:
            return self
        return replace(self, requests=min(self.requests, slow.requests))


@dataclass(frozen=True)
class Load:
    """What all replicas are loaded with."""

    requests: float = 0.0
    """Under way or waiting, those that no replica has yet included."""
    kv: float = 0.0
    """The replicas' shares in use, summed: 1.5 is one and a half full caches."""
    ttft_s: float = 0.0
    """Median time to first tokens of the mean replica; 0: too few came of late."""
    requests_then: float = 0.0
    """Requests that a replica had when it gave those tokens."""


@dataclass(frozen=True)
class Slow:
    """So many requests a replica are the most that it should have, as was found out."""

    requests: float
    at: float


def decide(target: int, running: int, load: Load, targets: Targets) -> int:
    """How many replicas there should be, without bounds.

    Args:
        target: Replicas that were wanted so far.
        running: Those that take requests already.
        load: What there is to do now.
        targets: What a replica should do.

    The answer rises with the load and never falls with it. At a constant load it is the same again
    once it was done. It is at most ``max(STEP, running)`` above what runs, or else the target, and
    at least half the target.
    """
    needed = max(load.requests / targets.requests, load.kv / targets.kv)
    fewest, most = _ceil(needed), _ceil(needed / SLACK)
    wanted = min(max(target, fewest), most)
    return min(max(wanted, target // 2), max(target, running + max(STEP, running)))


def learn(
    now: float, load: Load, targets: Targets, settled: bool, known: Slow | None
) -> Slow | None:
    """What is known of how many requests are too many.

    Args:
        now: Seconds of any clock.
        load: What there is to do now.
        targets: What a replica should do.
        settled: Whether the same replicas ran for all of the window of ``load.ttft_s``.
        known: What was known so far.
    """
    if known is not None and now - known.at > REMEMBER_S:
        known = None
    if not settled or targets.ttft_s is None or load.ttft_s <= targets.ttft_s:
        return known
    # One request at a time that is too slow gets no faster by more replicas
    fewer = max(1.0, 0.9 * load.requests_then)
    return Slow(fewer if known is None else min(fewer, known.requests), now)


class LoadPolicy:
    """The policy that Serve's controller calls; made there from ``autoscaling_config``."""

    def __init__(
        self,
        requests: float,
        ttft_s: float | None,
        kv: float,
        batches: Mapping[str, Any] | None = None,
    ) -> None:
        from eksml.serving.batch_jobs.waiting import Waiting

        self._targets = Targets(requests, ttft_s, kv)
        self._batches = None if batches is None else Waiting(**batches)

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        now = context.current_time or time.time()
        target, running = context.target_num_replicas, context.current_num_replicas
        state = context.policy_state
        same = running == target == state.get("running")
        since: float = state["since"] if same else now
        load = load_of(context.total_num_requests, context.aggregated_metrics or {})
        slow = learn(now, load, self._targets, now - since > SETTLE_S, state.get("slow"))
        wanted = decide(target, running, load, self._targets.but(slow))
        if self._batches is not None and self._batches.any():
            wanted = max(wanted, 1)
        return wanted, {"running": running, "since": since, "slow": slow}


def load_of(requests: float, told: Mapping[str, Mapping[Any, float]]) -> Load:
    """The load, from what replicas told: statistic → replica → its mean of late."""
    times = told.get("ttft_s", {})
    replicas = [each for each, seconds in times.items() if seconds > 0]
    if not replicas:
        return Load(requests, sum(told.get("kv", {}).values()))
    then = told.get("requests_then", {})
    return Load(
        requests,
        sum(told.get("kv", {}).values()),
        statistics.fmean(times[each] for each in replicas),
        statistics.fmean(then.get(each, 0.0) for each in replicas),
    )


class Signals:
    """What one replica tells the policy: ``record_autoscaling_stats`` returns ``numbers()``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kv = 0.0
        self._firsts: deque[tuple[float, float, int]] = deque()

    def step(self, kv: float, requests: int, first_tokens_s: Sequence[float]) -> None:
        """The engine made a step.

        Args:
            kv: Share of its KV cache in use.
            requests: Those in the engine, running and waiting.
            first_tokens_s: For each request that got its first token: how long that took.
        """
        self._kv = kv
        now = self._clock()
        self._firsts.extend((now, seconds, requests) for seconds in first_tokens_s)

    def numbers(self) -> dict[str, float]:
        """Statistics for the policy. Serve asks for them several times a second."""
        while self._firsts and self._clock() - self._firsts[0][0] > WINDOW_S:
            self._firsts.popleft()
        if len(self._firsts) < ENOUGH:
            return {"kv": self._kv, "ttft_s": 0.0, "requests_then": 0.0}
        return {
            "kv": self._kv,
            "ttft_s": statistics.median(seconds for _, seconds, _ in self._firsts),
            "requests_then": statistics.fmean(requests for _, _, requests in self._firsts),
        }


def autoscaling_config(
    fewest: int,
    most: int,
    targets: Targets,
    upscale_delay_s: float,
    downscale_delay_s: float,
    batches: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The ``autoscaling_config`` of a deployment, which may stand in a Serve configuration file.

    Args:
        fewest: Replicas.
        most: Replicas.
        targets: What each should be loaded with.
        upscale_delay_s: How long more must be wanted before they are started.
        downscale_delay_s: How long fewer must be wanted before some are ended.
        batches: Where batches are looked for, which are work enough for one replica: the arguments
            of ``Waiting``, as plain data.
    """
    kwargs: dict[str, Any] = {
        "requests": targets.requests,
        "ttft_s": targets.ttft_s,
        "kv": targets.kv,
    }
    if batches is not None and fewest == 0:
        kwargs["batches"] = dict(batches)
    return {
        "min_replicas": fewest,
        "max_replicas": most,
        "target_ongoing_requests": targets.requests,
        "upscale_delay_s": upscale_delay_s,
        "downscale_delay_s": downscale_delay_s,
        "metrics_interval_s": METRICS_INTERVAL_S,
        "look_back_period_s": LOOK_BACK_S,
        "policy": {
            "policy_function": "eksml.serving.scaling:LoadPolicy",
            "policy_kwargs": kwargs,
        },
    }


def _ceil(number: float) -> int:
    """Rounded up, but for what is a whole number except for rounding errors."""
    return math.ceil(number - 1e-9)
