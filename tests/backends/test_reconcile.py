"""What the keeper decides, without a single process."""

from __future__ import annotations

import pytest

from eksml.backends.processes import Process
from eksml.backends.reconcile import Failures, Start, Stop, reconcile
from eksml.backends.state import NodePhase, NodeState

NOBODY = Process(0, "")


def node(name: str, phase: NodePhase = "running", started_at: float = 0) -> NodeState:
    group = name.rpartition("-")[0] or name
    return NodeState(name, group, phase, NOBODY, "", "127.0.0.2", started_at)


HEAD = node("head")


def test_nothing_starts_before_the_head_runs() -> None:
    assert reconcile({"cpu": 2}, [], {}, now=0) == []
    assert reconcile({"cpu": 2}, [node("head", "starting")], {}, now=0) == []
    assert reconcile({"cpu": 2}, [HEAD], {}, now=0) == [Start("cpu")]


def test_nodes_start_one_at_a_time() -> None:
    assert reconcile({"a": 2, "b": 1}, [HEAD], {}, now=0) == [Start("a")]
    assert reconcile({"a": 2, "b": 1}, [HEAD, node("a-1", "starting")], {}, now=0) == []
    there = [HEAD, node("a-1"), node("a-2")]
    assert reconcile({"a": 2, "b": 1}, there, {}, now=0) == [Start("b")]


def test_the_newest_nodes_go_when_there_are_too_many() -> None:
    there = [HEAD, node("a-1", started_at=1), node("a-2", started_at=3), node("a-3", started_at=2)]
    assert reconcile({"a": 1}, there, {}, now=9) == [Stop("a-2"), Stop("a-3")]


def test_a_draining_node_fills_its_place_until_it_is_gone() -> None:
    draining = node("a-1", "draining")
    assert reconcile({"a": 1}, [HEAD, draining], {}, now=0) == []
    assert reconcile({"a": 1}, [HEAD], {}, now=0) == [Start("a")]
    assert reconcile({"a": 0}, [HEAD, draining], {}, now=0) == [], "it is not stopped twice"


@pytest.mark.parametrize(("count", "pause_s"), [(1, 1), (2, 2), (4, 8), (50, 30)])
def test_a_group_that_fails_is_tried_again_ever_later(count: int, pause_s: float) -> None:
    failures = {"a": Failures(count, last_at=100)}
    assert reconcile({"a": 1}, [HEAD], failures, now=100 + pause_s - 0.1) == []
    assert reconcile({"a": 1}, [HEAD], failures, now=100 + pause_s) == [Start("a")]


def test_a_failing_group_does_not_hold_up_another() -> None:
    failures = {"a": Failures(1, last_at=100)}
    assert reconcile({"a": 1, "b": 1}, [HEAD], failures, now=100) == [Start("b")]
