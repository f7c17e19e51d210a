"""What a cluster did cost."""

from __future__ import annotations

import pytest

from eksml.cluster.price import hourly_usd
from eksml.cluster.usage import NodeLifetime, receipt
from eksml.errors import InvalidSpec

HOUR = 3600.0


def life(hours: float, *, busy: float | None = None, **fields: object) -> NodeLifetime:
    made = {"instance": "g6.12xlarge", "market": "on-demand", "started_s": 1000.0} | fields
    busy_s = None if busy is None else busy * HOUR
    return NodeLifetime(ended_s=1000.0 + hours * HOUR, busy_s=busy_s, **made)  # type: ignore[arg-type]


def test_node_hours_and_money_are_summed_by_type_and_market() -> None:
    nodes = [life(2), life(3), life(4, market="spot"), life(1, instance="m7i.2xlarge")]
    made = receipt(nodes, now_s=1e9)
    by_kind = {(line.instance, line.market): line for line in made.lines}
    line = by_kind["g6.12xlarge", "on-demand"]
    assert (line.nodes, line.hours) == (2, 5)
    assert line.usd == pytest.approx(5 * hourly_usd("g6.12xlarge").usd)
    assert by_kind["g6.12xlarge", "spot"].usd == pytest.approx(
        4 * hourly_usd("g6.12xlarge", "spot").usd
    )
    assert made.hours == 10
    assert made.usd == pytest.approx(sum(line.usd for line in made.lines))
    assert [line.usd for line in made.lines] == sorted(
        (one.usd for one in made.lines), reverse=True
    )


def test_a_node_that_still_lives_counts_until_now() -> None:
    node = NodeLifetime("g6.12xlarge", "on-demand", started_s=0)
    assert receipt([node], now_s=2 * HOUR).hours == 2


def test_a_node_of_a_few_seconds_costs_a_minute() -> None:
    assert receipt([life(1 / HOUR)], now_s=1e9).hours == pytest.approx(1 / 60)


def test_the_idle_share_is_of_the_money_and_known_only_if_all_was_measured() -> None:
    dear, cheap = life(1, busy=1.0), life(1, busy=0.0, instance="m7i.2xlarge")
    made = receipt([dear, cheap], now_s=1e9)
    usd = {line.instance: line.usd for line in made.lines}
    assert made.idle_share == pytest.approx(usd["m7i.2xlarge"] / made.usd)
    assert receipt([dear, life(1)], now_s=1e9).idle_share is None
    assert receipt([life(1, busy=2.0)], now_s=1e9).idle_share == 0


def test_the_receipt_reads_as_a_table() -> None:
    told = str(receipt([life(1, busy=0.25), life(1, busy=0.75)], now_s=1e9))
    header, line, total, note = told.splitlines()
    assert header.split() == ["INSTANCE", "MARKET", "NODES", "HOURS", "COST", "IDLE"]
    assert line.split()[:4] == ["g6.12xlarge", "on-demand", "2", "2.0"]
    assert line.endswith("50%")
    assert total.startswith("total")
    assert "prices of 20" in note
    assert str(receipt([], now_s=0)).endswith("No node ran.")


def test_impossible_lifetimes_are_refused_all_at_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        receipt([life(-1), life(1, busy=-1)], now_s=0)
    assert [problem.path for problem in refused.value.problems] == [
        "nodes.0.ended_s",
        "nodes.1.busy_s",
    ]
    with pytest.raises(InvalidSpec, match=r"g6\.13xlarge"):
        receipt([life(1, instance="g6.13xlarge")], now_s=1e9)
