"""What a cluster has cost so far."""

from __future__ import annotations

import time

import pytest

from eksml import Cluster, cpu, gpu
from eksml.backends.bill import bill
from eksml.backends.dashboard import RayLife
from eksml.cluster.price import hourly_usd

HOUR = 3600.0
SPEC = Cluster(
    name="demo",
    backend="eks",
    head={"instance": "m7i.2xlarge"},
    groups=(
        gpu("g6.12xlarge", market="spot", nodes=(0, 4)),
        cpu("m7i.8xlarge", pods_per_node=4, nodes=(0, 8)),
    ),
)


def test_nodes_cost_what_their_group_is_and_as_long_as_ray_had_them() -> None:
    now_s = time.time()
    receipt = bill(
        SPEC,
        [
            RayLife("headgroup", now_s - 4 * HOUR, None),
            RayLife("gpu", now_s - 3 * HOUR, now_s - HOUR),
            RayLife("gpu", now_s - HOUR, None),
        ],
    )
    hours = {(line.instance, line.market): line.hours for line in receipt.lines}
    assert hours["m7i.2xlarge", "on-demand"] == pytest.approx(4, abs=0.01)
    assert hours["g6.12xlarge", "spot"] == pytest.approx(3, abs=0.01)
    spot = hourly_usd("g6.12xlarge", "spot").usd
    assert receipt.usd == pytest.approx(4 * hourly_usd("m7i.2xlarge").usd + 3 * spot, rel=0.01)


def test_nodes_that_share_a_machine_pay_their_share() -> None:
    lives = [RayLife("cpu", 0, 2 * HOUR) for _ in range(4)]
    assert bill(SPEC, lives).hours == pytest.approx(2)


def test_a_node_of_no_group_is_nobodys_to_pay() -> None:
    assert bill(SPEC, [RayLife("", 0, HOUR), RayLife("elsewhere", 0, HOUR)]).lines == ()
