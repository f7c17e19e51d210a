"""When a request may be sent, and when again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.batches.models.backoff import FIRST_S, LONGEST_ASKED_S, LONGEST_S, delay_s, retry_after_s
from eksml.batches.models.rate_limit import BURST_S, TokenBucket

STEPS = st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 50)), min_size=1, max_size=60)


@given(per_minute=st.floats(1, 6000), steps=STEPS)
def test_in_no_span_of_time_more_begins_than_the_rate_and_one_burst(
    per_minute: float, steps: list[tuple[float, float]]
) -> None:
    now = 0.0
    bucket = TokenBucket(per_minute, lambda: now)
    begun: list[tuple[float, float]] = []
    for pause, amount in steps:
        now += pause
        begun.append((now + bucket.take(amount), amount))
    per_s = per_minute / 60
    assert begun == sorted(begun, key=lambda item: item[0])  # first come, first served
    for first in range(len(begun)):
        burst = max(1.0, per_s * BURST_S, begun[first][1])
        for last in range(first, len(begun)):
            span = begun[last][0] - begun[first][0]
            amount = sum(amount for _, amount in begun[first : last + 1])
            assert amount <= (burst + per_s * span) * (1 + 1e-6) + 1e-6


@given(per_minute=st.floats(1, 6000), count=st.integers(2, 50))
def test_the_rate_is_used_up_to_the_last(per_minute: float, count: int) -> None:
    bucket = TokenBucket(per_minute, lambda: 0.0)
    waits = [bucket.take() for _ in range(count)]
    burst = max(1.0, per_minute / 60 * BURST_S)
    assert waits[-1] == pytest.approx(max(0.0, (count - burst) / (per_minute / 60)))


def test_without_a_limit_nobody_waits_but_for_the_server() -> None:
    now = 0.0
    bucket = TokenBucket(None, lambda: now)
    assert [bucket.take(1e9) for _ in range(3)] == [0, 0, 0]
    bucket.hold(10)
    assert bucket.take() == 10
    now = 11.0
    assert bucket.take() == 0


def test_after_a_hold_requests_come_one_by_one_again() -> None:
    bucket = TokenBucket(60, lambda: 0.0)
    bucket.hold(10)
    assert [bucket.take() for _ in range(3)] == [11, 12, 13]


def test_what_was_used_beyond_the_guess_is_waited_for() -> None:
    bucket = TokenBucket(60, lambda: 0.0)
    assert bucket.take(1) == 0
    bucket.correct(9)
    assert bucket.take(1) == 10
    bucket.correct(-1000)
    assert bucket.take(1) == 0


@given(tries=st.integers(1, 1000), chance=st.floats(0, 1))
def test_waits_double_up_to_a_minute(tries: int, chance: float) -> None:
    wait = delay_s(tries, chance)
    whole = min(LONGEST_S, FIRST_S * 2 ** (tries - 1))
    assert whole / 2 <= wait <= whole


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0),
        ("0.5", 0.5),
        ("-1", 0.0),
        ("nan", 0.0),
        ("inf", LONGEST_ASKED_S),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("soon", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    at = 1445412480.0  # Wed, 21 Oct 2015 07:28:00 GMT
    assert retry_after_s({"retry-after": text}, at) == seconds
    assert retry_after_s({}) is None
