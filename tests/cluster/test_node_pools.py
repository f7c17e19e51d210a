"""The nodes that Karpenter may start for a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from kinds import assert_valid

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import WorkerGroup
from eksml.cluster.render.karpenter import karpenter

KARPENTER = {
    "node_role": "KarpenterNodeRole-prod",
    "subnets": {"karpenter.sh/discovery": "prod"},
    "security_groups": {"karpenter.sh/discovery": "prod"},
}


def made(*groups: WorkerGroup, **fields: Any) -> dict[str, dict[str, Any]]:
    """Specs of pools (``pool gpu``) and classes (``class gpu``), each a valid object."""
    fields = {"karpenter": KARPENTER} | fields
    spec = Cluster(name="demo", namespace="team", backend="eks", groups=groups, **fields)
    found = karpenter(spec)
    for one in found:
        assert_valid(one)
    kinds = {"NodePool": "pool", "EC2NodeClass": "class"}
    return {
        f"{kinds[one['kind']]} {one['metadata']['name'].removeprefix('team.demo.')}": one["spec"]
        for one in found
    }


def requirements(pool: dict[str, Any]) -> dict[str, list[str]]:
    return {one["key"]: one["values"] for one in pool["template"]["spec"]["requirements"]}


def test_without_karpenter_there_are_no_pools() -> None:
    assert karpenter(Cluster(name="demo", backend="eks", groups=(cpu(),))) == []


def test_head_and_groups_have_a_pool_each_with_a_class_of_its_own() -> None:
    found = made(cpu("m7i.4xlarge"), gpu("g6.12xlarge"))
    assert list(found) == [
        *("class headgroup", "class cpu", "class gpu"),
        *("pool headgroup", "pool cpu", "pool gpu"),
    ]
    for name in ("headgroup", "cpu", "gpu"):
        reference = found[f"pool {name}"]["template"]["spec"]["nodeClassRef"]
        assert reference["name"] == f"team.demo.{name}"


def test_a_pool_takes_the_groups_instances_market_and_zones() -> None:
    types = ("g6e.12xlarge", "g6e.24xlarge")
    group = gpu(types, market="spot", zones=("us-east-1a", "us-east-1b"), nodes=(0, 3))
    assert requirements(made(group)["pool gpu"]) == {
        "kubernetes.io/os": ["linux"],
        "node.kubernetes.io/instance-type": ["g6e.12xlarge", "g6e.24xlarge"],
        "karpenter.sh/capacity-type": ["spot"],
        "topology.kubernetes.io/zone": ["us-east-1a", "us-east-1b"],
    }


def test_the_head_is_on_demand_on_a_current_general_machine() -> None:
    assert requirements(made()["pool headgroup"]) == {
        "kubernetes.io/os": ["linux"],
        "kubernetes.io/arch": ["amd64"],
        "karpenter.k8s.aws/instance-category": ["c", "m", "r"],
        "karpenter.k8s.aws/instance-generation": ["5"],
        "karpenter.sh/capacity-type": ["on-demand"],
    }


@pytest.mark.parametrize(
    ("group", "taint"),
    [
        (gpu("g6.12xlarge", name="w"), "nvidia.com/gpu"),
        (neuron("trn1.32xlarge", name="w", image="ecr/neuron:1"), "aws.amazon.com/neuron"),
        (cpu("m7i.4xlarge", name="w"), None),
    ],
)
def test_nodes_with_devices_take_only_pods_that_want_them(
    group: WorkerGroup, taint: str | None
) -> None:
    taints = made(group)["pool w"]["template"]["spec"].get("taints", [])
    assert taints == ([{"key": taint, "effect": "NoSchedule"}] if taint else [])


def test_a_reservation_is_used_and_nothing_else() -> None:
    group = gpu("p5.48xlarge", market="reserved", capacity_reservation="cr-0123456789abcdef0")
    found = made(group)
    assert requirements(found["pool gpu"])["karpenter.sh/capacity-type"] == ["reserved"]
    assert found["class gpu"]["capacityReservationSelectorTerms"] == [
        {"id": "cr-0123456789abcdef0"}
    ]


def test_a_pool_may_start_twice_its_groups_machines() -> None:
    found = made(gpu("g6.12xlarge", nodes=(0, 8), pods_per_node=4))
    assert found["pool gpu"]["limits"] == {"cpu": "192", "nvidia.com/gpu": "16"}
    assert "limits" not in found["pool headgroup"]


def test_the_users_limits_count_instead() -> None:
    found = made(gpu("g6.12xlarge"), karpenter=KARPENTER | {"limits": {"cpu": 1000}})
    assert found["pool gpu"]["limits"] == {"cpu": "1000"}


def test_nodes_go_only_when_empty_and_protected_ones_neither_expire_nor_drift() -> None:
    found = made(cpu("m7i.4xlarge"), gpu("g6.12xlarge", protected=False))
    for pool in ("pool cpu", "pool gpu", "pool headgroup"):
        assert found[pool]["disruption"]["consolidationPolicy"] == "WhenEmpty"
    drift = {"pool cpu": "0", "pool headgroup": "0", "pool gpu": "10%"}
    expiry = {"pool cpu": "Never", "pool headgroup": "Never", "pool gpu": "720h"}
    for pool, nodes in drift.items():
        assert {"nodes": nodes, "reasons": ["Drifted"]} in found[pool]["disruption"]["budgets"]
        assert found[pool]["template"]["spec"]["expireAfter"] == expiry[pool]


def test_a_node_is_never_made_to_drain_by_the_clock() -> None:
    found = made(gpu("g6.12xlarge", market="spot"))
    for pool in ("pool gpu", "pool headgroup"):
        assert "terminationGracePeriod" not in found[pool]["template"]["spec"]


def test_a_pool_of_any_machine_takes_the_processor_that_the_image_is_for() -> None:
    group = cpu(cpus=4, node_selector={"kubernetes.io/arch": "arm64"})
    assert requirements(made(group)["pool cpu"])["kubernetes.io/arch"] == ["arm64"]


def test_pods_select_exactly_the_pool_of_their_group() -> None:
    spec = Cluster(
        name="demo",
        namespace="team",
        backend="eks",
        karpenter=KARPENTER,
        groups=(gpu("g6.12xlarge", market="spot", zones=("us-east-1a",)),),
    )
    pools = {one["metadata"]["name"] for one in karpenter(spec) if one["kind"] == "NodePool"}
    manifest = spec.manifest()["spec"]
    templates = [
        manifest["headGroupSpec"]["template"],
        *(group["template"] for group in manifest["workerGroupSpecs"]),
    ]
    chosen = [one["spec"]["nodeSelector"]["karpenter.sh/nodepool"] for one in templates]
    assert set(chosen) == pools
    assert len(chosen) == len(pools)


def test_local_disks_become_one_raid_where_there_are_any() -> None:
    found = made(gpu("g6.12xlarge"), cpu("m7i.4xlarge"))
    assert found["class gpu"]["instanceStorePolicy"] == "RAID0"
    assert "instanceStorePolicy" not in found["class cpu"]


def test_large_images_are_pulled_in_parallel_onto_a_fast_volume() -> None:
    found = made(gpu("g6.12xlarge"), cpu("m7i.4xlarge"))
    assert "FastImagePull: true" in found["class gpu"]["userData"]
    (disk,) = found["class gpu"]["blockDeviceMappings"]
    assert disk["ebs"]["throughput"] >= 600
    assert "userData" not in found["class cpu"]


def test_bottlerocket_keeps_images_on_its_second_volume() -> None:
    found = made(gpu("g6.12xlarge"), karpenter=KARPENTER | {"ami": "bottlerocket@v1.50.0"})
    disks = {one["deviceName"]: one["ebs"] for one in found["class gpu"]["blockDeviceMappings"]}
    assert disks["/dev/xvdb"]["volumeSize"] == "200Gi"
    assert "userData" not in found["class gpu"]


def test_a_group_that_chooses_its_nodes_itself_gets_no_pool() -> None:
    found = made(
        cpu("m7i.4xlarge", node_selector={"karpenter.sh/nodepool": "shared"}),
        gpu("g6.12xlarge", node_selector={"eks.amazonaws.com/nodegroup": "gpus"}),
    )
    assert list(found) == ["class headgroup", "pool headgroup"]


def test_clusters_whose_names_run_together_do_not_share_pools() -> None:
    one = Cluster(name="a", backend="eks", karpenter=KARPENTER, groups=(cpu(name="b-c"),))
    other = Cluster(name="a-b", backend="eks", karpenter=KARPENTER, groups=(cpu(name="c"),))
    names = [{made["metadata"]["name"] for made in karpenter(spec)} for spec in (one, other)]
    assert not names[0] & names[1]


def test_names_stay_within_what_a_label_holds() -> None:
    spec = Cluster(
        name="a" * 53,
        namespace="b" * 40,
        backend="eks",
        karpenter=KARPENTER,
        groups=(cpu(name="c" * 40 + "1"), cpu(name="c" * 40 + "2")),
    )
    names = {one["metadata"]["name"] for one in karpenter(spec) if one["kind"] == "NodePool"}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)
