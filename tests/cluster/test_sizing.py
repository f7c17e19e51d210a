"""The pod of a node: a share of what its instance can allocate, and what Ray gives out of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from strategies import MODEST, eks_clusters

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import Demand, Head, offers_of, preflight
from eksml.cluster.allocatable import allocatable
from eksml.cluster.catalogue import instance
from eksml.cluster.sizing import SIDECARS_BYTES, SIDECARS_MILLI, machines, resolve
from eksml.errors import DoesNotFit, InvalidSpec

GIB = 1024**3


def test_a_pod_takes_all_that_its_instance_can_allocate() -> None:
    size = resolve(gpu("p5.48xlarge", efa=True, scratch="2Ti"))
    free = allocatable(instance("p5.48xlarge"), efa=True)
    assert (size.gpus, size.efa) == (8, 32)
    assert free.cpus_milli - 100 < size.cpus_milli <= free.cpus_milli
    assert free.memory_bytes - 1024**2 < size.memory_bytes <= free.memory_bytes
    assert size.requests() == {
        "cpu": f"{size.cpus_milli}m",
        "memory": f"{size.memory_bytes // 1024**2}Mi",
        "ephemeral-storage": "2097152Mi",
        "nvidia.com/gpu": "8",
        "vpc.amazonaws.com/efa": "32",
        "hugepages-2Mi": "5120Mi",
    }


def test_the_smallest_of_several_instances_counts() -> None:
    both = resolve(cpu(("m7i.4xlarge", "r7i.2xlarge")))
    assert both.cpus_milli == resolve(cpu("r7i.2xlarge")).cpus_milli
    assert both.memory_bytes == resolve(cpu("m7i.4xlarge")).memory_bytes


def test_a_machine_is_cut_into_equal_shares() -> None:
    group = gpu("p5.48xlarge", pods_per_node=4, efa=True, nodes=10)
    whole, share = resolve(gpu("p5.48xlarge", efa=True)), resolve(group)
    assert (share.gpus, share.efa, share.hugepages_bytes) == (2, 8, 1280 * 1024**2)
    assert share.cpus_milli * 4 <= whole.cpus_milli
    assert share.memory_bytes * 4 <= whole.memory_bytes
    assert [machines(group, nodes) for nodes in (0, 1, 4, 5, 10)] == [0, 1, 1, 2, 3]


def test_neuron_pods_ask_for_whole_devices_or_else_for_cores() -> None:
    whole = resolve(neuron("inf2.xlarge"))
    assert whole.requests()["aws.amazon.com/neuron"] == "1"
    assert whole.offers()["neuron_cores"] == 2
    half = resolve(neuron("inf2.xlarge", pods_per_node=2))
    assert half.requests()["aws.amazon.com/neuroncore"] == "1"
    assert "aws.amazon.com/neuron" not in half.requests()
    assert half.offers()["neuron_cores"] == 1


def test_trainium_cores_are_logical_unless_the_physical_are_said() -> None:
    logical, physical = neuron("trn2.48xlarge"), neuron("trn2.48xlarge", neuron_cores=128)
    assert [resolve(group).neuron_cores for group in (logical, physical)] == [64, 128]
    assert resolve(physical).neuron_devices == 16
    with pytest.raises(InvalidSpec, match="neuron_cores: 100"):
        resolve(neuron("trn2.48xlarge", neuron_cores=100))


def test_ray_gives_out_what_is_said_of_what_the_pod_has() -> None:
    whole = resolve(cpu("m7i.4xlarge"))
    less = resolve(cpu("m7i.4xlarge", cpus=8, memory="16Gi", object_store_memory="4Gi"))
    assert whole.requests() == less.requests(), "the machine is the group's either way"
    assert less.offers() == {"CPU": 8, "memory": 16 * GIB, "object_store_memory": 4 * GIB}


def test_memory_and_object_store_share_the_pod() -> None:
    size = resolve(cpu("m7i.4xlarge"))
    assert size.ray_memory_bytes + size.object_store_bytes == size.memory_bytes
    assert size.object_store_bytes == pytest.approx(0.3 * size.memory_bytes, rel=1e-3)
    assert resolve(cpu("m7i.4xlarge", shm="1Gi")).object_store_bytes == GIB
    most = resolve(cpu("m7i.4xlarge", memory="50Gi"))
    assert most.object_store_bytes == most.memory_bytes - 50 * GIB


def test_without_an_instance_a_pod_is_as_large_as_is_said() -> None:
    assert resolve(cpu()).requests() == {"cpu": "1000m", "memory": "4096Mi"}
    size = resolve(cpu(cpus=4, memory="8Gi", object_store_memory="2Gi"))
    assert size.requests() == {"cpu": "4000m", "memory": "10240Mi"}
    usual = resolve(cpu(cpus=4, memory="7Gi"))
    assert usual.memory_bytes == pytest.approx(10 * GIB, rel=1e-3)
    assert usual.ray_memory_bytes == 7 * GIB
    none = resolve(cpu(cpus=0, resources={"license": 1}))
    assert (none.cpus_milli, none.ray_cpus) == (1000, 0)


def test_the_head_keeps_work_away_and_leaves_room_for_the_sidecars() -> None:
    assert resolve(Head()).requests() == {"cpu": "4000m", "memory": "16384Mi"}
    assert resolve(Head()).ray_cpus == 0
    size, free = resolve(Head(instance="m7i.2xlarge", cpus=2)), allocatable(instance("m7i.2xlarge"))
    assert size.ray_cpus == 2
    assert size.cpus_milli + SIDECARS_MILLI <= free.cpus_milli
    assert size.memory_bytes + SIDECARS_BYTES <= free.memory_bytes
    assert resolve(Head(pod_cpus=8, pod_memory="32Gi")).requests()["memory"] == "32768Mi"


def test_a_size_that_cannot_be_had_is_refused_with_every_problem() -> None:
    with pytest.raises(InvalidSpec) as refused:
        resolve(gpu("g6.12xlarge", gpus=3, cpus=99, pods_per_node=2))
    assert [problem.path for problem in refused.value.problems] == ["gpus", "cpus"]
    with pytest.raises(InvalidSpec, match=r"g6\.12xlarge"):
        resolve(gpu("g6.12xlrge"))


def test_preflight_knows_the_sizes_of_instances_on_eks() -> None:
    cluster = Cluster(
        name="x", backend="eks", groups=(gpu("g6.12xlarge", nodes=(0, 2), market="spot"),)
    )
    head, group = offers_of(cluster)
    assert head.resources.get("CPU", 0) == 0
    assert (group.resources["GPU"], group.count) == (4, 2)
    assert group.labels["ray.io/accelerator-type"] == "L4"
    l4 = {"ray.io/accelerator-type": "L4"}
    assert preflight(Demand(({"CPU": 11, "GPU": 1},) * 8, l4), cluster).workers == {"gpu": 8}
    with pytest.raises(DoesNotFit, match="8 fit"):
        preflight(Demand(({"CPU": 1, "GPU": 1},) * 9), cluster)
    with pytest.raises(DoesNotFit, match="memory"):
        preflight(Demand(({"memory": 2**40},)), cluster)


@MODEST
@given(eks_clusters())
def test_the_pods_of_any_accepted_group_fit_on_each_of_its_instances(cluster: Cluster) -> None:
    for group in cluster.groups:
        size = resolve(group)
        assert size.ray_memory_bytes + size.object_store_bytes <= size.memory_bytes
        assert size.ray_cpus * 1000 <= size.cpus_milli
        for name in group.instances:
            free, machine = allocatable(instance(name), efa=group.efa), instance(name)
            assert size.cpus_milli * group.pods_per_node <= free.cpus_milli
            assert size.memory_bytes * group.pods_per_node <= free.memory_bytes
            assert size.efa * group.pods_per_node <= machine.efa
            assert size.gpus * group.pods_per_node == (machine.gpu.count if machine.gpu else 0)
