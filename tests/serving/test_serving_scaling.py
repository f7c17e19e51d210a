"""The autoscaling policy: its laws, what replicas tell it, and that Serve goes by it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.serving.scaling import (
    ENOUGH,
    REMEMBER_S,
    SETTLE_S,
    SLACK,
    STEP,
    WINDOW_S,
    Load,
    LoadPolicy,
    Signals,
    Slow,
    Targets,
    autoscaling_config,
    decide,
    learn,
    load_of,
)

REPLICAS = st.integers(0, 200)
TARGETS = st.builds(Targets, st.floats(0.5, 500), st.none(), st.floats(0.1, 1))
LOADS = st.builds(Load, st.floats(0, 1e4), st.floats(0, 200))


@given(REPLICAS, REPLICAS, LOADS, LOADS, TARGETS)
def test_more_load_never_means_fewer_replicas(
    target: int, running: int, one: Load, more: Load, targets: Targets
) -> None:
    both = Load(one.requests + more.requests, one.kv + more.kv)
    assert decide(target, running, one, targets) <= decide(target, running, both, targets)


@given(REPLICAS, REPLICAS, LOADS, TARGETS)
def test_steps_are_bounded(target: int, running: int, load: Load, targets: Targets) -> None:
    wanted = decide(target, running, load, targets)
    assert target // 2 <= wanted <= max(target, running + max(STEP, running))


@given(REPLICAS, LOADS, TARGETS)
def test_steady_load_is_reached_in_one_direction_and_then_kept(
    begin: int, load: Load, targets: Targets
) -> None:
    counts = [begin]
    for _ in range(64):
        counts.append(decide(counts[-1], counts[-1], load, targets))
    assert counts in (sorted(counts), sorted(counts, reverse=True))
    assert counts[-1] == counts[-2]
    needed = max(load.requests / targets.requests, load.kv / targets.kv)
    assert needed - 1e-6 <= counts[-1], "as many as the load needs"


@given(st.floats(1, 1e4), st.lists(st.floats(0.9, 1.1), min_size=2, max_size=60), TARGETS)
def test_load_that_wavers_by_a_tenth_never_has_replicas_come_and_go(
    mean: float, wavering: list[float], targets: Targets
) -> None:
    count, counts = 1, []
    for factor in [1.1] * 20 + wavering:
        count = decide(count, count, Load(mean * factor), targets)
        counts.append(count)
    settled = counts[19:]
    assert settled in (sorted(settled), sorted(settled, reverse=True))


def test_replicas_that_still_start_are_not_asked_for_again() -> None:
    targets = Targets(requests=10)
    assert decide(1, 1, Load(requests=100), targets) == 1 + STEP
    assert decide(5, 1, Load(requests=100), targets) == 5, "four of them start"
    assert decide(5, 5, Load(requests=100), targets) == 10


def test_the_fuller_of_requests_and_cache_decides() -> None:
    targets = Targets(requests=10, kv=0.8)
    assert decide(2, 2, Load(requests=5, kv=2.0), targets) == 3
    assert decide(2, 2, Load(requests=39, kv=0.1), targets) == 4


def test_a_replica_is_given_up_when_the_others_have_room_to_spare() -> None:
    targets = Targets(requests=10)
    assert decide(3, 3, Load(requests=20), targets) == 3
    assert decide(3, 3, Load(requests=20 * SLACK), targets) == 2
    assert decide(1, 1, Load(requests=0), targets) == 0


def test_slow_first_tokens_teach_how_many_requests_are_too_many() -> None:
    targets = Targets(requests=32, ttft_s=0.5)
    slow = learn(7.0, Load(30, 1.0, ttft_s=0.8, requests_then=30), targets, True, None)
    assert slow == Slow(27.0, at=7.0)
    assert decide(1, 1, Load(30), targets) == 1
    assert decide(1, 1, Load(30), targets.but(slow)) == 2
    assert decide(2, 2, Load(30), targets.but(slow)) == 2, "and it stays so: no flapping"


def test_nothing_is_learnt_before_the_replicas_settled_or_from_fast_tokens() -> None:
    targets = Targets(requests=32, ttft_s=0.5)
    slow = Load(30, 1.0, ttft_s=0.8, requests_then=30)
    assert learn(7.0, slow, targets, settled=False, known=None) is None
    assert learn(7.0, replace(slow, ttft_s=0.4), targets, settled=True, known=None) is None
    assert learn(7.0, slow, replace(targets, ttft_s=None), settled=True, known=None) is None


def test_what_was_learnt_is_forgotten_after_an_hour() -> None:
    targets, known = Targets(requests=32, ttft_s=0.5), Slow(10.0, at=0.0)
    assert learn(REMEMBER_S - 1, Load(), targets, True, known) == known
    assert learn(REMEMBER_S + 1, Load(), targets, True, known) is None


def test_one_request_at_a_time_that_is_slow_asks_for_no_second_replica() -> None:
    targets = Targets(requests=32, ttft_s=0.5)
    slow = learn(0.0, Load(1, 0.1, ttft_s=9.0, requests_then=1), targets, True, None)
    assert decide(1, 1, Load(requests=1), targets.but(slow)) == 1


def test_first_tokens_count_while_they_are_new_and_enough() -> None:
    now = [0.0]
    signals = Signals(clock=lambda: now[0])
    for number in range(ENOUGH - 1):
        signals.step(kv=0.25, requests=4, first_tokens_s=[number])
    signals.step(kv=0.5, requests=7, first_tokens_s=[])
    assert signals.numbers() == {"kv": 0.5, "ttft_s": 0.0, "requests_then": 0.0}
    signals.step(kv=0.75, requests=9, first_tokens_s=[100.0])
    assert signals.numbers() == {"kv": 0.75, "ttft_s": 2.0, "requests_then": 5.0}
    now[0] = WINDOW_S + 1
    assert signals.numbers() == {"kv": 0.75, "ttft_s": 0.0, "requests_then": 0.0}


def test_the_load_is_what_all_replicas_told_together() -> None:
    told = {
        "kv": {"a": 0.5, "b": 0.75, "c": 0.0},
        "ttft_s": {"a": 1.0, "b": 3.0, "c": 0.0},
        "requests_then": {"a": 10.0, "b": 20.0, "c": 0.0},
    }
    assert load_of(7.0, told) == Load(7.0, 1.25, ttft_s=2.0, requests_then=15.0)
    assert load_of(7.0, {}) == Load(7.0)


def test_the_policy_learns_only_from_replicas_that_have_run_for_a_while() -> None:
    policy = LoadPolicy(requests=32, ttft_s=0.5, kv=0.85)
    told = {"kv": {"a": 0.1}, "ttft_s": {"a": 2.0}, "requests_then": {"a": 20.0}}
    context = SimpleNamespace(
        current_time=1000.0,
        target_num_replicas=1,
        current_num_replicas=1,
        total_num_requests=20.0,
        aggregated_metrics=told,
        policy_state={},
    )
    decisions = []
    for _ in range(3):
        wanted, context.policy_state = policy(context)
        decisions.append(wanted)
        context.current_time += SETTLE_S * 0.6
    assert decisions == [1, 1, 2]


def test_serve_takes_the_configuration_and_finds_the_policy() -> None:
    from ray.serve.config import AutoscalingConfig

    given = autoscaling_config(0, 4, Targets(16, ttft_s=1.0), 0.5, 60.0)
    with pytest.warns(DeprecationWarning, match="metrics_interval_s"):  # its successor is unused
        taken = AutoscalingConfig(**given)
    assert taken.policy.get_policy() is LoadPolicy
    assert LoadPolicy(**taken.policy.policy_kwargs)._targets == Targets(16, 1.0)


class Sleeper:
    """A replica that is busy for as long as it was asked to be."""

    def __init__(self) -> None:
        self._signals = Signals()

    async def __call__(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def record_autoscaling_stats(self) -> dict[str, float]:
        return self._signals.numbers()


@pytest.fixture
def sleepers(embedded_ray: None) -> Iterator[object]:
    """No replica yet, three at most; each should have two requests."""
    import ray.cloudpickle
    from ray import serve

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # replicas can't import this
    deployment = serve.deployment(Sleeper).options(
        autoscaling_config=autoscaling_config(0, 3, Targets(requests=2), 0.0, 3.0),
        ray_actor_options={"num_cpus": 0.1},
    )
    yield serve.run(deployment.bind(), name="sleepers", route_prefix=None)
    serve.delete("sleepers")
    if not serve.status().applications:  # else another test's model is served here
        serve.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def replicas() -> int:
    from ray import serve

    states = serve.status().applications["sleepers"].deployments["Sleeper"].replica_states
    return sum(states.values())


def wait_for_replicas(number: int) -> None:
    end_s = time.monotonic() + 60
    while replicas() != number:
        assert time.monotonic() < end_s, f"{replicas()} replicas"
        time.sleep(0.05)


@pytest.mark.filterwarnings("ignore:The `metrics_interval_s`:DeprecationWarning")
def test_serve_starts_replicas_for_the_load_and_ends_them_after_it(sleepers) -> None:
    assert replicas() == 0
    first = sleepers.remote(0.0)
    first.result(timeout_s=60)  # was held until there was a replica for it
    answers = [sleepers.remote(4.0) for _ in range(6)]
    wait_for_replicas(3)
    for answer in answers:
        answer.result(timeout_s=60)
    wait_for_replicas(0)
