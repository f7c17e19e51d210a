"""A group that contradicts itself is refused, wherever it runs."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import cpu, gpu
from eksml.cluster import Toleration
from eksml.errors import InvalidSpec

RESERVATION = "cr-0123456789abcdef0"
EVERYTHING_WRONG = {
    "name": "head",
    "nodes": (1, 3),
    "replicas": 4,
    "hosts": 2,
    "pods_per_node": 2,
    "efa": True,
    "scratch": "1Ti",
    "zones": ("us-east-1a", "us-east-1b"),
    "spread": "zone",
    "capacity_reservation": RESERVATION,
    "node_selector": {"karpenter.sh/nodepool": "a", "eks.amazonaws.com/nodegroup": "b"},
    "shm": "1Gi",
    "object_store_memory": "2Gi",
}


def problems_of(instance: Any = None, **fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        gpu(instance, **fields)
    return {problem.path: str(problem) for problem in refused.value.problems}


def test_all_contradictions_are_told_at_once() -> None:
    assert set(problems_of(**EVERYTHING_WRONG)) == {
        "name",
        "replicas",
        "hosts",
        "pods_per_node",
        "efa",
        "scratch",
        "zones",
        "spread",
        "capacity_reservation",
        "instance",
        "node_selector",
        "object_store_memory",
    }


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"hosts": 2, "nodes": (2, 5)}, "hosts", "which 5 nodes cannot"),
        ({"hosts": 2, "nodes": 4, "pods_per_node": 2}, "hosts", "not shares of one"),
        ({"pods_per_node": 2, "spread": "host"}, "spread", "contradicts pods_per_node 2"),
        ({"zones": ("us-east-1a",), "spread": "zone"}, "spread", "names only us-east-1a"),
        ({"efa": True, "spread": "zone"}, "spread", "EFA works within one zone"),
        ({"zones": ("us-east-1a", "us-east-1a")}, "zones", "twice"),
        ({"capacity_reservation": RESERVATION}, "capacity_reservation", "market: reserved"),
        ({"instance": ("g6.xlarge", "g6.xlarge")}, "instance", "twice"),
        ({"instance": ()}, "instance", "one or more names"),
        ({"instance": 3}, "instance", "valid tuple"),
        ({"hosts": 0}, "hosts", "greater than or equal to 1"),
        ({"pods_per_node": True}, "pods_per_node", "valid integer"),
        ({"priority": 2**31}, "priority", "less than or equal to"),
        ({"nodes": 2**31}, "nodes.0", "less than or equal to"),
        ({"zones": ("use1-az1",)}, "zones.0", "such as us-east-1a"),
        ({"capacity_reservation": "p5", "market": "reserved"}, "capacity_reservation", "its id"),
        ({"accelerator": ""}, "accelerator", "at least 1 character"),
        ({"accelerator": "two words"}, "accelerator", "label value"),
        ({"priority_class": "High"}, "priority_class", "name of a Kubernetes object"),
        ({"spread": "rack"}, "spread", "'zone' or 'host'"),
        ({"node_selector": {"gpu": "yes"}}, "node_selector.gpu", "no node may ever match"),
        (
            {"node_selector": {"node.kubernetes.io/instance-type": "g6.xlarge"}},
            "node_selector.node.kubernetes.io/instance-type",
            "set by eksml from instance",
        ),
        (
            {"node_selector": {"karpenter.sh/capacity-type": "spot"}},
            "node_selector.karpenter.sh/capacity-type",
            "set by eksml from market",
        ),
        ({"tolerations": [{"key": "a", "seconds": 3}]}, "tolerations.0.seconds", "NoExecute"),
        ({"tolerations": [{"key": "a", "effect": "No"}]}, "tolerations.0.effect", "NoSchedule"),
        ({"tolerations": [{"value": "a"}]}, "tolerations.0.key", "is missing"),
    ],
)
def test_wrong_placement_is_refused(fields: dict[str, Any], path: str, told: str) -> None:
    found = problems_of(**({"instance": "g6.12xlarge"} | fields))
    assert told in found[path]
    assert len(found) == 1 or path == "nodes.0"


def test_one_instance_and_several_are_written_alike() -> None:
    assert gpu("g6.xlarge").instances == ("g6.xlarge",)
    assert gpu("g6.xlarge") == gpu(("g6.xlarge",)) == gpu(["g6.xlarge"])  # type: ignore[arg-type]
    assert cpu().instances == ()


def test_labels_tell_what_the_instance_and_the_zone_are() -> None:
    group = gpu("g6.12xlarge", zones=("us-east-1a",), market="spot", labels={"team": "a"})
    assert group.node_labels() == {
        "team": "a",
        "ray.io/node-group": "gpu",
        "ray.io/market-type": "spot",
        "ray.io/accelerator-type": "L4",
        "ray.io/availability-zone": "us-east-1a",
    }
    several = gpu("g6.12xlarge", zones=("us-east-1a", "us-east-1b"))
    assert "ray.io/availability-zone" not in several.node_labels()


@pytest.mark.parametrize(
    ("pod", "path"),
    [
        ({"containers": []}, "containers"),
        ({"spec": []}, "spec"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.restartPolicy"),
        ({"spec": {"nodeSelector": {"a": "b"}}}, "spec.nodeSelector"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.serviceAccountName"),
        ({"spec": {"terminationGracePeriodSeconds": 3}}, "spec.terminationGracePeriodSeconds"),
        ({"metadata": {"name": "x"}}, "metadata.name"),
        ({"metadata": {"labels": {"ray.io/group": "x"}}}, "metadata.labels.ray.io/group"),
        ({"spec": {"hostname": None}}, "spec.hostname"),
        ({"spec": {"containers": [{"name": {1, 2}}]}}, "spec.containers.0.name"),
        ({"metadata": {"annotations": {3: "x"}}}, "metadata.annotations.3"),
        ({"spec": {"priority": float("nan")}}, "spec.priority"),
    ],
)
def test_the_way_out_into_the_pod_has_rails(pod: dict[str, Any], path: str) -> None:
    assert set(problems_of(pod=pod)) == {f"pod.{path}"}


def test_what_eksml_has_no_field_for_can_be_said_in_the_pod() -> None:
    pod = {"spec": {"hostAliases": [{"ip": "10.0.0.1", "hostnames": ["feast"]}]}}
    assert gpu(pod=pod).pod == pod


def test_a_taint_is_tolerated_for_a_while_or_for_ever() -> None:
    assert Toleration(key="a", effect="NoExecute", seconds=30).seconds == 30
    assert Toleration(key="team.example.com/only", value="vision").effect is None
