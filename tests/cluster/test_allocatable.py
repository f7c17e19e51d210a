"""What is left of a node: EKS's formulas, and the values that were published for real types."""

from __future__ import annotations

import pytest

from eksml.cluster.allocatable import (
    DAEMONSETS,
    GIB,
    HUGE_PAGES_BYTES,
    MIB,
    DaemonSet,
    allocatable,
    pod_limit,
    reserved_cpu_milli,
    reserved_memory_bytes,
)
from eksml.cluster.catalogue import instance, instances


@pytest.mark.parametrize(
    ("name", "cpus_milli", "memory_mib"),
    [
        ("g5.8xlarge", 31850, 118312),
        ("g5.16xlarge", 63770, 239554),
        ("g5.48xlarge", 191450, 723299),
        ("g6.xlarge", 3920, 14162),
        ("g6.4xlarge", 15890, 57691),
        ("m8g.12xlarge", 47810, 178874),
        ("m8g.48xlarge", 191450, 718928),
        ("p4d.24xlarge", 95690, 1082712),
        ("p5.4xlarge", 15890, 240830),
        ("p5.48xlarge", 191450, 1938410),
    ],
)
def test_a_bare_node_has_what_karpenter_publishes_for_it(
    name: str, cpus_milli: int, memory_mib: int
) -> None:
    # karpenter.sh, «Instance Types»; for m8g those of m8gd, which differs by its disks only
    bare = allocatable(instance(name), daemonsets=())
    assert (bare.cpus_milli, bare.memory_bytes) == (cpus_milli, memory_mib * MIB)


@pytest.mark.parametrize(("vcpus", "milli"), [(1, 60), (2, 70), (4, 80), (8, 90), (96, 310)])
def test_the_kubelet_takes_ever_less_of_each_further_core(vcpus: int, milli: int) -> None:
    assert reserved_cpu_milli(vcpus) == milli


def test_the_kubelet_takes_memory_by_the_pods_that_may_come() -> None:
    assert reserved_memory_bytes(29) == (255 + 11 * 29 + 100) * MIB


def test_no_node_has_more_than_it_was_sold_with() -> None:
    for known in instances().values():
        left = allocatable(known)
        assert 0 < left.cpus_milli < known.vcpus * 1000
        assert 0 < left.memory_bytes < known.memory_bytes
        assert left.ephemeral_bytes > 0
        assert 0 < left.pods < known.max_pods


def test_daemonsets_are_taken_off_on_the_nodes_that_they_run_on() -> None:
    agent = DaemonSet("gpu-agent", 500, 2 * GIB, on="gpu")
    for name, cpus, memory in [("g6.xlarge", 500, 2 * GIB), ("m7i.xlarge", 0, 0)]:
        without = allocatable(instance(name))
        with_agent = allocatable(instance(name), (*DAEMONSETS, agent))
        assert without.cpus_milli - with_agent.cpus_milli == cpus
        assert without.memory_bytes - with_agent.memory_bytes == memory


def test_efa_interfaces_cost_the_memory_of_their_huge_pages() -> None:
    p5 = instance("p5.48xlarge")
    difference = allocatable(p5).memory_bytes - allocatable(p5, efa=True).memory_bytes
    assert difference == HUGE_PAGES_BYTES == 10256 * MIB


def test_the_files_of_pods_lie_on_local_disks_where_there_are_some() -> None:
    assert allocatable(instance("g6.xlarge")).ephemeral_bytes == 225 * 1000**3 - GIB
    assert allocatable(instance("m7i.xlarge")).ephemeral_bytes == 17 * GIB


@pytest.mark.parametrize(
    ("name", "pods"), [("m7i.large", 29), ("g6.4xlarge", 110), ("p5.48xlarge", 100)]
)
def test_eks_caps_the_pods_of_a_node(name: str, pods: int) -> None:
    assert pod_limit(instance(name)) == pods


def test_eks_caps_the_pods_of_a_large_node_at_250() -> None:
    assert pod_limit(instance("p4d.24xlarge")) == 250
