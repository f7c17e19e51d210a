"""How many machines a specification takes, and whether its pods fit on them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import Head
from eksml.cluster.catalogue import instance, instances
from eksml.cluster.fit import Fit, Scale, capacity, fit, machine_fit
from eksml.cluster.requests import requests

NEURON = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ray-neuron:2.60.0-py311"


def fit_of(*groups: Any, **fields: Any) -> Fit:
    spec = Cluster(name="mine", backend="eks", groups=groups, **fields)
    return fit(spec, spec.manifest())


def test_one_machine_for_each_pod_unless_said_otherwise() -> None:
    head, train = fit_of(gpu("p5.48xlarge", nodes=4)).groups
    assert (train.instance, train.machines) == ("p5.48xlarge", Scale(4, 4, 4))
    assert train.pod["nvidia.com/gpu"] == 8
    assert train.pods == Scale(4, 4, 4)
    assert head.machines == Scale(1, 1, 1)


def test_machines_follow_the_range_of_the_group() -> None:
    group = gpu("g6e.12xlarge", nodes=(0, 16), replicas=2)
    assert fit_of(group).groups[1].machines == Scale(0, 2, 16)


def test_shares_of_a_machine_are_packed_onto_as_few_as_hold_them() -> None:
    group = gpu("g6e.12xlarge", pods_per_node=4, nodes=(1, 9))
    packed = fit_of(group).groups[1]
    assert packed.pod["nvidia.com/gpu"] == 1
    assert packed.on[0].pods_per_machine == 4
    assert packed.machines == Scale(1, 1, 3)


def test_several_types_are_counted_with_the_one_that_costs_most() -> None:
    group = gpu(("g6e.12xlarge", "g6e.24xlarge"), nodes=2)
    packed = fit_of(group).groups[1]
    assert [on.instance for on in packed.on] == ["g6e.24xlarge", "g6e.12xlarge"]
    assert packed.machines == Scale(2, 2, 2)


def test_a_head_without_an_instance_is_counted_with_the_cheapest_that_holds_it() -> None:
    head = fit_of(cpu("m7i.4xlarge"), head=Head(pod_cpus=4, pod_memory="16Gi")).groups[0]
    assert head.chosen
    assert head.fits
    chosen = instance(head.instance)
    assert chosen.accelerator is None
    assert chosen.vcpus > 4


def test_a_pod_that_asks_for_more_than_is_allocatable_is_told_with_numbers() -> None:
    sidecar = {
        "name": "x",
        "image": "x:1",
        "resources": {"requests": {"cpu": "4", "memory": "1Gi"}},
    }
    made = fit_of(gpu("g6.12xlarge", pod={"spec": {"containers": [sidecar]}}))
    (problem,) = made.problems
    assert problem.path == "groups.0"
    assert "fits on no machine" in problem.message
    assert "cpu 51.5 asked, 47.56 there" in problem.message
    assert made.groups[1].machines == Scale(0, 0, 0)


def test_a_type_that_is_too_small_for_the_pod_is_warned_about() -> None:
    spec = Cluster(name="mine", backend="eks", groups=(cpu(("m7i.4xlarge", "m7i.8xlarge")),))
    manifest = spec.manifest()
    container = manifest["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]
    container["resources"]["requests"] |= {"cpu": "20"}
    container["resources"]["limits"] |= {"cpu": "20"}
    made = fit(spec, manifest)
    assert not made.problems
    (warning,) = made.warnings
    assert warning.path == "groups.0.instance"
    assert warning.message.startswith("m7i.4xlarge cannot hold the pod (cpu 20 asked")
    assert made.groups[1].instance == "m7i.8xlarge"


@pytest.mark.parametrize("name", ["trn1.32xlarge", "trn2.48xlarge", "inf2.48xlarge"])
def test_neuron_machines_give_all_devices_to_one_pod(name: str) -> None:
    packed = fit_of(neuron(name, nodes=2, image=NEURON)).groups[1]
    assert packed.fits
    assert packed.pod["aws.amazon.com/neuron"] == instance(name).neuron.devices  # type: ignore[union-attr]
    assert packed.machines.max == 2


def test_efa_takes_all_cards_and_huge_pages_and_still_fits() -> None:
    packed = fit_of(gpu("p5.48xlarge", nodes=2, efa=True, zones=("us-east-1a",))).groups[1]
    assert packed.fits
    assert packed.pod["vpc.amazonaws.com/efa"] == 32
    assert packed.pod["hugepages-2Mi"] > 0


@pytest.mark.parametrize("name", sorted(name for name, one in instances().items() if one.gpu))
def test_what_a_gpu_group_asks_for_fits_on_its_own_instance(name: str) -> None:
    packed = fit_of(gpu(name, nodes=3)).groups[1]
    assert (packed.fits, packed.on[0].pods_per_machine) == (True, 1)


def test_the_scheduler_counts_sidecars_and_the_largest_init_container() -> None:
    def container(cpu: str, **more: str) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    template = {
        "spec": {
            "containers": [
                container("500m"),
                {"name": "limited", "resources": {"limits": {"cpu": "1"}}},
                {"name": "nothing"},
            ],
            "initContainers": [container("1", restartPolicy="Always"), container("2")],
        }
    }
    assert requests(template) == {"cpu": 2.5}
    template["spec"]["initContainers"].append(container("3.2"))
    assert requests(template) == {"cpu": 3.2}


@given(
    st.sampled_from(sorted(instances())),
    st.integers(1, 64),
    st.integers(1, 512),
    st.integers(0, 1000),
)
def test_as_many_machines_as_needed_and_none_more(
    name: str, cpus: int, gib: int, count: int
) -> None:
    pod = {"cpu": float(cpus), "memory": float(gib * 1024**3)}
    room = capacity(instance(name))
    on = machine_fit(instance(name), pod, Scale(0, count, count))
    each = on.pods_per_machine
    assert bool(each) != bool(on.short)
    assert all(each * amount <= room[resource] for resource, amount in pod.items())
    if each:
        full = {**pod, "pods": 1.0}
        assert any((each + 1) * amount > room[resource] for resource, amount in full.items())
        assert (on.machines.max - 1) * each < count <= on.machines.max * each or count == 0
