"""What an engine's steps tell of how many rows may run beside online requests."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from eksml.serving.step_times import PROMPTS, TOLERANCE, StepTimes


def after(
    base: float,
    each: float,
    most: int,
    prompt_s: float = 0.0,
    noise: float = 0.0,
    first_s: float = 100.0,
) -> StepTimes:
    """What is known of an engine that computed up to so many requests at once, 50 steps each, and
    gave 200 online requests their first token after so long."""
    dice, steps = random.Random(0), StepTimes()
    steps.leeway(1)
    for _ in range(50):
        for size in range(1, most + 1):
            seconds = (base + each * size) * dice.uniform(1 - noise, 1 + noise)
            steps.step((), [seconds] * size)
        steps.step([first_s], [base + each * most + prompt_s] * most)
        steps.step([first_s] * 3, [])
    for _ in range(100):
        steps.step((), [base + each])
    return steps


def test_of_an_engine_that_has_made_no_step_nothing_may_be_computed_beside_others() -> None:
    assert StepTimes().leeway(1).rows == 0


def test_an_engine_that_only_ever_computed_one_request_is_not_known_either() -> None:
    assert after(0.01, 0.001, most=1).leeway(1).rows == 0


def test_where_each_request_counts_there_are_no_rows_beside_others() -> None:
    assert after(base=0.003, each=0.0003, most=8).leeway(2).rows == 0


def test_where_weights_are_what_counts_there_are_many() -> None:
    steps = after(base=0.010, each=0.00002, most=64)
    assert 20 <= steps.leeway(1).rows <= 30
    assert steps.leeway(40).rows >= steps.leeway(1).rows


def test_where_a_request_would_feel_the_step_under_way_there_are_none() -> None:
    """Half a step of 10 ms is 5 % of 100 ms."""
    steps = {"base": 0.010, "each": 0.00002, "most": 64}
    assert after(**steps, first_s=0.090).leeway(1).rows == 0
    assert after(**steps, first_s=0.110).leeway(1).rows > 20


def test_first_tokens_of_rows_tell_nothing_of_online_requests() -> None:
    steps = after(base=0.010, each=0.00002, most=64, first_s=0.090)
    steps.leeway(0)
    for _ in range(1000):
        steps.step([30.0], [0.010])
        steps.step((), [0.010])
    assert steps.leeway(1).rows == 0


def test_no_more_than_twice_what_was_seen_is_tried_at_once() -> None:
    assert after(base=0.010, each=0.0, most=4).leeway(2).rows == 6


@given(
    st.floats(0.001, 0.1),
    st.floats(0.00001, 0.01),
    st.integers(2, 40),
    st.integers(0, 40),
)
def test_rows_make_no_step_longer_than_is_tolerated(
    base: float, each: float, most: int, online: int
) -> None:
    rows = after(base, each, most).leeway(online).rows
    alone = base + each * max(online, 1)
    assert rows * each <= TOLERANCE * alone * 1.001
    assert (rows + 1) * each >= TOLERANCE * alone * 0.999 or rows + max(online, 1) >= 2 * most


def test_steps_that_waver_by_a_third_still_tell() -> None:
    steps = after(base=0.010, each=0.00002, most=64, noise=0.33)
    assert steps.leeway(1).rows >= 10


def test_prompts_of_rows_take_their_part_of_the_time_and_no_more() -> None:
    pause_s = after(base=0.010, each=0.0001, most=8, prompt_s=0.02).leeway(1).pause_s
    assert 0.9 * 0.02 / PROMPTS < pause_s < 1.1 * 0.02 / PROMPTS


def test_a_step_that_hung_does_not_count_for_more_than_a_slow_one() -> None:
    steps = after(base=0.010, each=0.0001, most=8)
    before = steps.leeway(1)
    for size in range(1, 9):
        steps.step((), [30.0] * size)
    for _ in range(100):
        steps.step((), [0.0101])
    assert abs(steps.leeway(1).rows - before.rows) <= 2
