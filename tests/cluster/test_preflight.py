"""Whether work can ever be placed, from numbers alone."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml import Cluster, cpu, gpu
from eksml.cluster import Demand, Head, Offer, preflight
from eksml.cluster.packing import Slots
from eksml.errors import DoesNotFit, InvalidSpec

CLUSTER = Cluster(
    name="mine",
    head=Head(cpus=0),
    groups=(
        cpu(cpus=4, nodes=(0, 2), labels={"zone": "a"}),
        gpu(cpus=8, gpus=4, nodes=2, market="spot"),
    ),
)


def workers(count: int, bundle: Mapping[str, float], **selector: str) -> Demand:
    return Demand((bundle,) * count, {key.replace("__", "."): v for key, v in selector.items()})


def test_a_group_that_may_grow_counts_at_its_largest() -> None:
    assert preflight(workers(8, {"CPU": 1}), CLUSTER).workers == {"cpu": 8}


def test_workers_spread_over_the_groups_that_have_room() -> None:
    assert preflight(workers(24, {"CPU": 1}), CLUSTER).workers == {"cpu": 8, "gpu": 16}


def test_one_worker_too_many_is_refused_with_numbers_and_remedy() -> None:
    preflight(workers(8, {"CPU": 1, "GPU": 1}), CLUSTER)
    with pytest.raises(DoesNotFit) as refused:
        preflight(workers(9, {"CPU": 1, "GPU": 1}), CLUSTER)
    told = str(refused.value)
    assert "9 workers with CPU 1, GPU 1 each: 8 fit" in told
    assert "short of GPU (9 asked, 8 there)" in told
    assert "at most 8, or raise nodes of group 'gpu'" in told


def test_a_worker_larger_than_any_node_is_refused() -> None:
    with pytest.raises(DoesNotFit, match=r"GPU \(asked 5, the largest node has 4\)"):
        preflight(workers(1, {"GPU": 5}), CLUSTER)
    with pytest.raises(DoesNotFit, match=r"neuron_cores \(asked 1, the largest node has 0\)"):
        preflight(workers(1, {"neuron_cores": 1}), CLUSTER)


def test_what_is_there_only_on_different_nodes_does_not_fit() -> None:
    nodes = [Offer({"CPU": 8}, group="a"), Offer({"GPU": 1}, group="b")]
    with pytest.raises(DoesNotFit, match="no single node has all of it"):
        preflight(workers(1, {"CPU": 1, "GPU": 1}), nodes)


def test_labels_narrow_the_choice() -> None:
    spot = Demand(({"CPU": 1},) * 4, {"ray.io/market-type": "spot"})
    assert preflight(spot, CLUSTER).workers == {"gpu": 4}
    with pytest.raises(DoesNotFit, match=r"Nodes have zone=a"):
        preflight(workers(1, {"CPU": 1}, zone="b"), CLUSTER)
    assert preflight(workers(1, {"CPU": 1}, zone="!a"), CLUSTER).workers == {"gpu": 1}
    assert preflight(workers(1, {"CPU": 1}, zone="in(a, b)"), CLUSTER).workers == {"cpu": 1}
    assert preflight(workers(1, {"CPU": 1}, zone="!in(a,b)"), CLUSTER).workers == {"gpu": 1}


def test_memory_that_nobody_stated_is_no_reason_to_refuse() -> None:
    assert preflight(workers(2, {"CPU": 1, "memory": 1e15}), CLUSTER)


def test_running_nodes_of_ray_can_be_asked_as_well() -> None:
    alive = {"Alive": True, "Resources": {"CPU": 2.0}, "Labels": {"ray.io/node-group": "cpu"}}
    dead = {"Alive": False, "Resources": {"CPU": 64.0}, "Labels": {}}
    assert preflight(workers(2, {"CPU": 1}), [alive, dead]).workers == {"cpu": 2}
    with pytest.raises(DoesNotFit, match="2 fit"):
        preflight(workers(3, {"CPU": 1}), [alive, dead])
    with pytest.raises(DoesNotFit, match="No node at all"):
        preflight(workers(1, {"CPU": 1}), [dead])


def test_different_workers_are_placed_largest_first() -> None:
    nodes = [Offer({"CPU": 4}), Offer({"CPU": 4})]
    preflight(Demand(({"CPU": 1},) * 2 + ({"CPU": 3},) * 2), nodes)
    with pytest.raises(DoesNotFit):
        preflight(Demand(({"CPU": 1},) * 3 + ({"CPU": 3},) * 2), nodes)


def test_fractions_add_up() -> None:
    preflight(workers(10, {"GPU": 0.1}), [Offer({"GPU": 1})])
    with pytest.raises(DoesNotFit):
        preflight(workers(11, {"GPU": 0.1}), [Offer({"GPU": 1})])


def test_no_demand_always_fits() -> None:
    assert preflight(Demand(()), []).workers == {}
    assert preflight(workers(3, {}), [Offer({}, group="x")]).workers == {"x": 3}


@pytest.mark.parametrize("amount", [0, -1, float("nan"), True, "1"])
def test_amounts_are_positive_numbers(amount: object) -> None:
    with pytest.raises(InvalidSpec, match=r"bundles\.0\.CPU"):
        Demand(({"CPU": amount},))  # type: ignore[dict-item]


def test_a_group_whose_size_only_its_instance_knows_says_so() -> None:
    cluster = Cluster(name="x", groups=(gpu("g6.12xlarge"),))
    with pytest.raises(InvalidSpec, match=r"gpus.*Say gpus="):
        preflight(workers(1, {"GPU": 1}), cluster)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 60),
)
def test_equal_workers_are_counted_exactly(
    nodes: list[tuple[int, int]], cpus: int, gpus: int, count: int
) -> None:
    fit = sum(min(c // cpus, g // gpus) for c, g in nodes)
    demand = workers(count, {"CPU": cpus, "GPU": gpus})
    offers = [Offer({"CPU": c, "GPU": g}, group=str(i)) for i, (c, g) in enumerate(nodes)]
    if count <= fit:
        assert sum(preflight(demand, offers).workers.values()) == count
    else:
        with pytest.raises(DoesNotFit):
            preflight(demand, offers)


def test_a_group_of_a_million_nodes_is_no_more_work_than_one_of_two() -> None:
    demand = Demand(({"CPU": 3},) * 1000 + ({"CPU": 1},) * 1000)
    large = [Offer({"CPU": 4}, group="large", count=1_000_000)]
    assert preflight(demand, large).workers == {"large": 2000}


def test_stages_that_run_at_the_same_time_must_fit_at_the_same_time() -> None:
    read = Demand(({"CPU": 1},) * 4, what="tasks of stage read")
    embed = Demand(({"CPU": 2, "GPU": 1},) * 8, what="actors of stage embed")
    assert preflight([read, embed], CLUSTER).workers == {"cpu": 4, "gpu": 8}
    with pytest.raises(DoesNotFit, match=r"9 tasks of stage read .*: 8 fit beside 8 others"):
        preflight([Demand(({"CPU": 1},) * 9, what=read.what), embed], CLUSTER)
    with pytest.raises(DoesNotFit, match=r"9 actors of stage embed .*: 8 fit beside 4 others"):
        preflight([read, Demand(embed.bundles[:1] * 9, what=embed.what)], CLUSTER)


def test_each_demand_keeps_its_own_labels() -> None:
    spot = Demand(({"CPU": 1},) * 16, {"ray.io/market-type": "spot"}, "replicas of llm")
    steady = Demand(({"CPU": 1},) * 8, {"ray.io/market-type": "!spot"}, "replicas of router")
    assert preflight([steady, spot], CLUSTER).workers == {"gpu": 16, "cpu": 8}
    with pytest.raises(DoesNotFit, match="none fit beside 8 others"):
        preflight([steady, Demand(({"CPU": 1},), {"ray.io/market-type": "!spot"})], CLUSTER)


def test_work_without_gpus_leaves_the_gpu_nodes_to_those_who_need_them() -> None:
    nodes = [Offer({"CPU": 8, "GPU": 8}, group="gpu"), Offer({"CPU": 8}, group="cpu")]
    large, small = {"CPU": 8}, {"CPU": 1, "GPU": 1}
    assert preflight(Demand((large,) + (small,) * 8), nodes).workers == {"cpu": 1, "gpu": 8}


def test_nothing_is_left_for_the_last_says_so() -> None:
    nodes = [Offer({"CPU": 4}, group="a")]
    with pytest.raises(DoesNotFit, match=r"1 late .*: none fit beside 4 others.*Ask for less"):
        preflight([Demand(({"CPU": 1},) * 4), Demand(({"CPU": 0.5},), what="late")], nodes)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4), st.integers(1, 3)), max_size=6),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=12),
)
def test_what_is_placed_never_exceeds_what_is_there(
    nodes: list[tuple[int, int, int]], bundles: list[tuple[int, int]]
) -> None:
    offers = [
        Offer({"CPU": c, "GPU": g}, group=str(i), count=n) for i, (c, g, n) in enumerate(nodes)
    ]
    asked = [{"CPU": c, "GPU": g} if g else {"CPU": c} for c, g in bundles]
    slots = Slots(["CPU", "GPU"])
    for index, offer in enumerate(offers):
        slots.add(index, offer.resources, offer.count)
    used = [(slots.place(bundle, 1), bundle) for bundle in asked]
    for index, offer in enumerate(offers):
        for name, amount in offer.resources.items():
            taken = sum(placed.get(index, 0) * bundle.get(name, 0) for placed, bundle in used)
            assert taken <= amount * offer.count
    left_over = [bundle for placed, bundle in used if not placed]
    assert not any(slots.place(bundle, 1) for bundle in left_over)


ON_EKS = Cluster(
    name="big",
    backend="eks",
    groups=(gpu("p5.48xlarge", name="train", nodes=4), cpu("m7i.4xlarge", nodes=(0, 8))),
)


def test_on_eks_a_node_offers_what_its_instance_can_allocate() -> None:
    assert preflight(workers(4, {"CPU": 8, "GPU": 8}), ON_EKS).workers == {"train": 4}
    with pytest.raises(DoesNotFit) as refused:
        preflight(workers(8, {"CPU": 8, "GPU": 8}), ON_EKS)
    assert str(refused.value) == (
        "8 workers with CPU 8, GPU 8 each: 4 fit, short of GPU (64 asked, 32 there). "
        "Ask for at most 4, or raise nodes of group 'train'."
    )
    with pytest.raises(DoesNotFit, match=r"CPU \(asked 192, the largest node has 191\)"):
        preflight(workers(1, {"CPU": 192}), ON_EKS)


def test_on_eks_memory_is_known_and_counts() -> None:
    preflight(workers(1, {"memory": 1e12}), ON_EKS)
    with pytest.raises(DoesNotFit, match="none fits, since no node has enough memory"):
        preflight(workers(1, {"memory": 3e12}), ON_EKS)


def test_the_replicas_of_an_application_go_to_the_accelerator_that_they_name() -> None:
    llm = Demand(({"GPU": 1},) * 8, {"ray.io/accelerator-type": "H100"}, "replicas of llm")
    assert preflight(llm, ON_EKS).workers == {"train": 8}
    wrong = Demand(({"GPU": 1},), {"ray.io/accelerator-type": "L4"}, "replicas of llm")
    with pytest.raises(DoesNotFit, match=r"Nodes have ray\.io/accelerator-type=H100"):
        preflight(wrong, ON_EKS)
