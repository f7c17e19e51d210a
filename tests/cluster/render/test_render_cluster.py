"""The RayCluster: head, groups, autoscaler, state, token, queue."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rendering import cluster_spec, eks, rendered, worker

from eksml import Cluster, cpu, gpu
from eksml.cluster.render import objects
from eksml.errors import InvalidSpec

GATE = {"gates": ("GCSFaultToleranceEmbeddedStorage",)}


def test_the_head_runs_no_tasks_unless_it_is_told_to() -> None:
    assert cluster_spec(cpu())["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    told = cluster_spec(cpu(), head={"cpus": 2, "resources": {"licence": 1.0}})
    params = told["headGroupSpec"]["rayStartParams"]
    assert params["num-cpus"] == "2"
    assert json.loads(params["resources"].strip("'")) == {"licence": 1.0}


def test_a_heads_pod_is_as_large_as_said_or_as_its_instance() -> None:
    requests = [
        cluster_spec(cpu(), head=head)["headGroupSpec"]["template"]["spec"]["containers"][0][
            "resources"
        ]["requests"]
        for head in ({}, {"pod_cpus": 8, "pod_memory": "32Gi"}, {"instance": "m7i.2xlarge"})
    ]
    assert requests[0] == {"cpu": "4000m", "memory": "16384Mi"}
    assert requests[1] == {"cpu": "8000m", "memory": "32768Mi"}
    # Less than the node has: the autoscaler and a job's submitter come into the same pod
    assert int(requests[2]["cpu"].removesuffix("m")) < 7000


def test_groups_become_replicas() -> None:
    group = worker(gpu("g6.12xlarge", nodes=(1, 8), replicas=3))
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 3, 8)
    assert "numOfHosts" not in group


def test_hosts_that_come_together_are_one_replica() -> None:
    group = worker(gpu("p5.48xlarge", nodes=(4, 16), hosts=4))
    assert group["numOfHosts"] == 4
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 1, 4)


def test_the_autoscaler_runs_where_a_group_may_grow_and_is_version_2() -> None:
    scaled = cluster_spec(cpu(nodes=(0, 2)))
    assert scaled["enableInTreeAutoscaling"] is True
    assert scaled["autoscalerOptions"]["version"] == "v2"
    assert scaled["autoscalerOptions"]["idleTimeoutSeconds"] == 300
    fixed = cluster_spec(cpu(nodes=2))
    assert not {"enableInTreeAutoscaling", "autoscalerOptions"} & fixed.keys()


def test_autoscaling_is_tuned_for_the_cluster_and_for_groups() -> None:
    spec = cluster_spec(
        cpu(nodes=(0, 2), idle_timeout_s=0),
        gpu("g6.12xlarge", nodes=(0, 2), priority=10),
        autoscaling={"idle_timeout_s": 60, "upscaling": "conservative"},
    )
    options = spec["autoscalerOptions"]
    assert (options["idleTimeoutSeconds"], options["upscalingMode"]) == (60, "Conservative")
    first, second = spec["workerGroupSpecs"]
    assert first["idleTimeoutSeconds"] == 0
    assert "priority" not in first
    assert second["priority"] == 10
    assert "idleTimeoutSeconds" not in second


def test_tokens_are_always_asked_for() -> None:
    assert cluster_spec(cpu())["authOptions"] == {"mode": "token"}
    named = cluster_spec(cpu(), security={"token_secret": "tokens"})
    assert named["authOptions"] == {"mode": "token", "secretName": "tokens"}


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, None),
        ({"operator": GATE}, {"backend": "rocksdb", "storage": {"size": "10Gi"}}),
        (
            {
                "operator": GATE,
                "head_state": {"store": "rocksdb", "size": "50Gi", "storage_class": "gp3"},
            },
            {"backend": "rocksdb", "storage": {"size": "50Gi", "storageClassName": "gp3"}},
        ),
        (
            {"operator": GATE, "head_state": {"store": "rocksdb", "claim": "state"}},
            {"backend": "rocksdb", "storage": {"claimName": "state"}},
        ),
        (
            {"head_state": {"store": "redis", "redis_address": "redis:6379"}},
            {"backend": "redis", "redisAddress": "redis:6379"},
        ),
        (
            {
                "head_state": {
                    "store": "redis",
                    "redis_address": "redis:6379",
                    "redis_secret": "redis",
                }
            },
            {
                "backend": "redis",
                "redisAddress": "redis:6379",
                "redisPassword": {
                    "valueFrom": {"secretKeyRef": {"name": "redis", "key": "password"}}
                },
            },
        ),
    ],
)
def test_the_heads_state_outlives_it_where_the_operator_can(
    fields: dict[str, Any], options: dict[str, Any] | None
) -> None:
    assert cluster_spec(cpu(), **fields).get("gcsFaultToleranceOptions") == options


def test_kueue_admits_and_may_grow_a_cluster_that_scales() -> None:
    queue = {"name": "team-a", "priority": "high"}
    fixed = rendered(eks(cpu(nodes=2), queue=queue))["metadata"]
    assert fixed["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert fixed["labels"]["kueue.x-k8s.io/priority-class"] == "high"
    assert "annotations" not in fixed
    scaled = rendered(eks(cpu(nodes=(0, 2)), queue=queue))["metadata"]
    assert scaled["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}


@pytest.mark.parametrize(
    ("queue", "labels"),
    [
        (
            {"name": "team-a", "kind": "volcano", "priority": "high"},
            {"volcano.sh/queue-name": "team-a", "ray.io/priority-class-name": "high"},
        ),
        (
            {"name": "root.team-a", "kind": "yunikorn"},
            {
                "ray.io/gang-scheduling-enabled": "true",
                "yunikorn.apache.org/app-id": "demo",
                "yunikorn.apache.org/queue": "root.team-a",
            },
        ),
    ],
)
def test_other_queues_have_labels_of_their_own(
    queue: dict[str, str], labels: dict[str, str]
) -> None:
    assert labels.items() <= rendered(eks(cpu(), queue=queue))["metadata"]["labels"].items()


def test_equal_specifications_render_equally_in_the_same_order() -> None:
    spec = eks(cpu(labels={"b": "1", "a": "2"}), gpu("g6.12xlarge"), env={"Z": "1", "A": "2"})
    again = Cluster.from_yaml(spec.to_yaml())
    assert repr(objects(spec)) == repr(objects(again))


def test_nothing_in_a_manifest_stands_in_two_places() -> None:
    def containers(value: Any) -> list[int]:
        if not isinstance(value, (dict, list)):
            return []
        inner = value.values() if isinstance(value, dict) else value
        return [id(value), *(found for one in inner for found in containers(one))]

    spec = eks(cpu(market="spot"), cpu(name="other", market="spot", nodes=(0, 3)))
    found = containers(rendered(spec))
    assert len(found) == len(set(found))


def test_the_ray_object_comes_last_after_all_that_it_refers_to() -> None:
    spec = eks(cpu(), mounts=({"kind": "s3", "bucket": "my-data", "path": "/data"},))
    kinds = [made["kind"] for made in objects(spec)]
    assert kinds[-1] == "RayCluster"
    assert {"ServiceAccount", "PersistentVolumeClaim"} <= set(kinds[:-1])


def test_what_kuberay_would_not_survive_is_refused_by_path() -> None:
    volumes = [{"name": "unmade", "mountPath": "/nowhere"}]
    broken = cpu(pod={"spec": {"containers": [{"name": "ray-worker", "volumeMounts": volumes}]}})
    with pytest.raises(InvalidSpec, match=r"spec\.workerGroupSpecs\.0\.template\.spec\.containers"):
        eks(broken).manifest()
