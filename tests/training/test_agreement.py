"""Boundaries are the same on every rank, whatever the clocks say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eksml.training.agreement import BOUNDARY_S, Boundaries, interval_of


@given(st.integers(1, 10**6), st.floats(1e-6, 10**6))
def test_boundaries_are_a_quarter_of_a_second_apart_where_steps_allow(steps, seconds):
    interval = interval_of(steps, seconds)
    step_s = seconds / steps
    assert interval == 1 or interval * step_s <= BOUNDARY_S + step_s


def test_a_clock_that_stands_still_asks_at_every_step():
    assert interval_of(5, 0.0) == 1


@given(st.lists(st.integers(1, 50), min_size=1), st.none() | st.integers(1, 20))
def test_ranks_that_hear_the_same_intervals_meet_at_the_same_steps(intervals, every):
    def met() -> list[int]:
        boundaries, given, steps = Boundaries(0, every, total=200), iter(intervals * 200), []
        for step in range(1, 201):
            if boundaries.reached(step):
                boundaries.agreed(step, next(given))
                steps.append(step)
        return steps

    assert met() == met()
    assert {1, 200} <= set(met())
    assert every is None or set(range(every, 201, every)) <= set(met())
