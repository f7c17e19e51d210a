"""Where the pods of a group may lie."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import NEURON_IMAGE, cluster_spec, eks, pod

from eksml import cpu, gpu, neuron
from eksml.cluster import WorkerGroup
from eksml.cluster.render.names import node_pool

KARPENTER = {
    "node_role": "KarpenterNodeRole-prod",
    "subnets": {"karpenter.sh/discovery": "prod"},
    "security_groups": {"karpenter.sh/discovery": "prod"},
}
MANAGED, KARPENTERS = "eks.amazonaws.com/capacityType", "karpenter.sh/capacity-type"


def terms(group: WorkerGroup, **fields: Any) -> list[dict[str, tuple[str, list[str]]]]:
    """Node affinity: ways to be acceptable, each as label → (operator, values)."""
    affinity = pod(group, **fields)["affinity"]["nodeAffinity"]
    found = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [
        {one["key"]: (one["operator"], one["values"]) for one in term["matchExpressions"]}
        for term in found
    ]


def test_one_instance_and_one_zone_are_selected_by_well_known_labels() -> None:
    found = pod(gpu("g6.12xlarge", zones=("us-east-1a",)))["nodeSelector"]
    assert found == {
        "node.kubernetes.io/instance-type": "g6.12xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
    }


def test_of_several_instances_and_zones_any_will_do() -> None:
    group = gpu(("g6.12xlarge", "g6.24xlarge"), zones=("us-east-1a", "us-east-1b"))
    (term,) = terms(group)
    assert term["node.kubernetes.io/instance-type"] == ("In", ["g6.12xlarge", "g6.24xlarge"])
    assert term["topology.kubernetes.io/zone"] == ("In", ["us-east-1a", "us-east-1b"])
    assert "nodeSelector" not in pod(group)


def test_spot_is_what_either_karpenter_or_a_node_group_calls_so() -> None:
    group = gpu(("g6.12xlarge", "g6.24xlarge"), market="spot")
    karpenters, managed = terms(group)
    assert karpenters[KARPENTERS] == ("In", ["spot"])
    assert managed[MANAGED] == ("In", ["SPOT"])
    # Terms are alternatives: each must also name the instances
    assert all("node.kubernetes.io/instance-type" in term for term in (karpenters, managed))


def test_on_demand_is_neither_spot_nor_reserved_whoever_made_the_node() -> None:
    (term,) = terms(cpu("m7i.4xlarge"))
    assert term[KARPENTERS] == ("NotIn", ["spot", "reserved"])
    assert term[MANAGED] == ("NotIn", ["SPOT", "CAPACITY_BLOCK"])


def test_the_head_is_on_demand_though_the_workers_are_spot() -> None:
    head = cluster_spec(gpu("g6.12xlarge", market="spot"))["headGroupSpec"]["template"]["spec"]
    assert "'NotIn', 'values': ['spot', 'reserved']" in str(head["affinity"])


def test_pods_without_an_instance_go_to_the_processor_of_their_image() -> None:
    assert pod(cpu())["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    arm = cpu(node_selector={"kubernetes.io/arch": "arm64"})
    assert pod(arm)["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert pod(arm)["containers"][0]["image"].endswith("-aarch64")


def test_with_karpenter_a_group_lies_on_its_own_pool() -> None:
    spec = cluster_spec(cpu("m7i.4xlarge"), karpenter=KARPENTER)
    pools = [
        group["template"]["spec"]["nodeSelector"]["karpenter.sh/nodepool"]
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    assert pools == [node_pool(eks(), "headgroup"), node_pool(eks(), "cpu")]


def test_a_pool_or_node_group_that_is_named_wins() -> None:
    named = cpu("m7i.4xlarge", node_selector={"eks.amazonaws.com/nodegroup": "mine"})
    selector = pod(named, karpenter=KARPENTER)["nodeSelector"]
    assert selector["eks.amazonaws.com/nodegroup"] == "mine"
    assert "karpenter.sh/nodepool" not in selector


@pytest.mark.parametrize(
    ("group", "taints"),
    [
        (cpu("m7i.4xlarge"), []),
        (gpu("g6.12xlarge"), ["nvidia.com/gpu"]),
        (neuron("trn1.32xlarge", image=NEURON_IMAGE), ["aws.amazon.com/neuron"]),
    ],
)
def test_taints_of_accelerators_are_tolerated(group: WorkerGroup, taints: list[str]) -> None:
    found = pod(group).get("tolerations", [])
    assert found == [{"key": key, "operator": "Exists", "effect": "NoSchedule"} for key in taints]


def test_tolerations_follow_and_none_stands_twice() -> None:
    said = (
        {"key": "nvidia.com/gpu", "effect": "NoSchedule"},
        {"key": "team", "value": "vision", "effect": "NoExecute", "seconds": 60},
    )
    assert pod(gpu("g6.12xlarge", tolerations=said))["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {
            "key": "team",
            "operator": "Equal",
            "value": "vision",
            "effect": "NoExecute",
            "tolerationSeconds": 60,
        },
    ]


def test_efa_keeps_a_group_in_one_zone_whichever_that_is() -> None:
    (rule,) = pod(gpu("p5.48xlarge", efa=True))["affinity"]["podAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert rule["topologyKey"] == "topology.kubernetes.io/zone"
    assert rule["labelSelector"]["matchLabels"]["ray.io/group"] == "gpu"


def test_a_zone_that_is_said_needs_no_affinity_for_efa() -> None:
    affinity = pod(gpu("p5.48xlarge", efa=True, zones=("us-east-1a",)))["affinity"]
    assert affinity.keys() == {"nodeAffinity"}


@pytest.mark.parametrize(
    ("spread", "key", "unsatisfiable"),
    [
        ("zone", "topology.kubernetes.io/zone", "ScheduleAnyway"),
        ("host", "kubernetes.io/hostname", "DoNotSchedule"),
    ],
)
def test_a_group_is_spread_when_asked(spread: Any, key: str, unsatisfiable: str) -> None:
    (found,) = pod(gpu("g6.12xlarge", spread=spread))["topologySpreadConstraints"]
    assert (found["topologyKey"], found["whenUnsatisfiable"]) == (key, unsatisfiable)
    assert found["labelSelector"]["matchLabels"]["ray.io/group"] == "gpu"
    assert "topologySpreadConstraints" not in pod(gpu("g6.12xlarge"))


def test_a_priority_class_is_the_groups() -> None:
    assert pod(cpu(priority_class="urgent"))["priorityClassName"] == "urgent"
    assert "priorityClassName" not in pod(cpu())
