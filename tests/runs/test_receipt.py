"""Receipts: what a run cost and how much of it was kept, from its events alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml.runs.receipt import Kind, event, receipt


def at(at_s: float, kind: Kind, attempt: int = 1, **fields: Any) -> dict[str, Any]:
    return event(kind, attempt, at_s=at_s, **fields)


def test_nothing_happened_costs_nothing() -> None:
    assert receipt([]).wall_s == 0.0
    assert receipt([]).kept_share == 0.0


def test_a_run_without_trouble_keeps_its_whole_loop() -> None:
    events = [
        at(100, "attempt_started"),
        at(102, "incarnation_started", restored_step=0, nodes=2, workers=4),
        at(105, "loop_started"),
        at(150, "committed", step=50),
        at(195, "ended", step=100),
        at(200, "attempt_ended"),
    ]
    paid = receipt(events)
    assert (paid.wall_s, paid.kept_s, paid.kept_share) == (100, 90, 0.9)
    assert paid.node_s == 2 * (200 - 102)
    assert (paid.attempts, paid.restarts) == (1, 0)


def test_work_after_the_checkpoint_that_a_restart_went_on_from_is_not_kept() -> None:
    events = [
        at(0, "incarnation_started", restored_step=0, nodes=1, workers=1),
        at(0, "loop_started"),
        at(50, "committed", step=50),
        at(57, "committed", step=57),  # damaged, so the restart goes on from 50
        at(60, "incarnation_started", restored_step=50, nodes=1, workers=1),
        at(62, "loop_started"),
        at(112, "ended", step=100),
    ]
    paid = receipt(events)
    assert paid.kept_s == 50 + 50
    assert paid.wall_s == 112
    assert paid.restarts == 1


def test_a_run_that_has_to_begin_again_keeps_nothing_of_before() -> None:
    events = [
        at(0, "incarnation_started", restored_step=0, nodes=1, workers=1),
        at(0, "loop_started"),
        at(10, "committed", step=10),
        at(20, "incarnation_started", restored_step=10, nodes=1, workers=1),
        at(20, "loop_started"),
        at(30, "committed", step=20),
        at(40, "incarnation_started", restored_step=0, nodes=1, workers=1),
        at(40, "loop_started"),
        at(60, "ended", step=20),
    ]
    assert receipt(events).kept_s == 20


def test_between_two_checkpoints_time_is_shared_by_steps() -> None:
    events = [
        at(0, "incarnation_started", restored_step=0, nodes=1, workers=1),
        at(0, "loop_started"),
        at(100, "committed", step=100),
        at(110, "incarnation_started", restored_step=40, nodes=1, workers=1),
    ]
    assert receipt(events).kept_s == pytest.approx(40)


def test_nodes_are_paid_until_the_next_incarnation_or_the_last_sign_of_life() -> None:
    killed_driver = [
        at(0, "attempt_started", 1),
        at(0, "incarnation_started", 1, restored_step=0, nodes=3, workers=3),
        at(10, "loop_started", 1),
        at(30, "committed", 1, step=5),
        at(1000, "attempt_started", 2),
        at(1000, "incarnation_started", 2, restored_step=5, nodes=1, workers=1),
        at(1010, "loop_started", 2),
        at(1020, "ended", 2, step=10),
    ]
    paid = receipt(killed_driver)
    assert paid.node_s == 3 * 30 + 20
    assert paid.attempts == 2


def test_a_run_that_goes_on_is_counted_until_now() -> None:
    events = [at(0, "incarnation_started", restored_step=0, nodes=2, workers=2)]
    paid = receipt(events, now_s=50)
    assert (paid.wall_s, paid.node_s, paid.kept_s) == (50, 100, 0)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Runs with restarts at random, each from a step that was committed, or from an older one."""
    now, events, committed = 0.0, [], 0
    for _ in range(draw(st.integers(1, 5))):
        now += draw(st.floats(0.1, 10))
        restored = draw(st.integers(0, committed))
        events.append(at(now, "incarnation_started", restored_step=restored, nodes=1, workers=1))
        now += draw(st.floats(0.1, 10))
        events.append(at(now, "loop_started"))
        step = restored
        for _ in range(draw(st.integers(0, 4))):
            now += draw(st.floats(0.1, 10))
            step += draw(st.integers(0, 20))
            events.append(at(now, "committed", step=step))
        committed = step
    return events


@given(histories(), st.randoms())
def test_kept_time_is_part_of_wall_time_whatever_the_order_of_events(
    events: list[dict[str, Any]], chance: Any
) -> None:
    paid = receipt(events)
    assert 0 <= paid.kept_s <= paid.wall_s
    assert 0 <= paid.kept_share <= 1
    assert paid.node_s <= paid.wall_s + 1e-6
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert receipt(shuffled) == paid
