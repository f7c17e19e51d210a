"""What stands around a cluster: who its pods are, what they may use, what may not be taken."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from kinds import assert_valid, nulls
from strategies import eks_clusters

from eksml import Cluster, cpu, gpu
from eksml.cluster.render.access import token_secret
from eksml.cluster.render.queue import queue
from eksml.cluster.render.surroundings import surroundings
from eksml.errors import InvalidSpec

EXAMPLES = 50
ROLE = "arn:aws:iam::123456789012:role/train"


def cluster(**fields: Any) -> Cluster:
    return Cluster(**{"name": "demo", "namespace": "team-a", "backend": "eks"} | fields)


def of_kind(spec: Cluster, kind: str) -> list[dict[str, Any]]:
    return [made for made in surroundings(spec) if made["kind"] == kind]


FULL = cluster(
    groups=(
        gpu(
            "g6e.12xlarge",
            nodes=(0, 4),
            mounts=({"kind": "s3", "bucket": "weights", "path": "/weights"},),
        ),
        cpu("m7i.4xlarge", nodes=2, market="spot"),
    ),
    identity={"role_arn": ROLE},
    quota={"limits": {"requests.cpu": "64", "limits.memory": "1Ti", "pods": "40"}},
    mounts=({"kind": "s3", "bucket": "data.sets", "path": "/data", "prefix": "v3/"},),
    karpenter={"node_role": "node", "subnets": {"a": "b"}, "security_groups": {"a": "b"}},
    security={"clients": ({"namespace": "notebooks"}, {"labels": {"app": "api"}})},
)


def test_every_object_is_one_that_an_api_server_takes() -> None:
    for made in surroundings(FULL):
        assert_valid(made)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(eks_clusters())
def test_whatever_a_specification_says_the_objects_around_it_are_valid(spec: Cluster) -> None:
    made = surroundings(spec)
    for one in made:
        assert_valid(one)
    assert not list(nulls(made))
    names = [(one["kind"], one["metadata"]["name"]) for one in made]
    assert len(set(names)) == len(names)


def test_what_pods_refer_to_comes_before_what_starts_them() -> None:
    kinds = list(dict.fromkeys(made["kind"] for made in surroundings(FULL)))
    assert kinds == [
        "ResourceQuota",
        "LimitRange",
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "EC2NodeClass",
        "NodePool",
        "PodDisruptionBudget",
        "PodMonitor",
    ]


def test_equal_specifications_give_the_same_text_and_no_nulls() -> None:
    text = json.dumps(surroundings(FULL))
    assert text == json.dumps(surroundings(Cluster.from_yaml(FULL.to_yaml())))
    assert not list(nulls(surroundings(FULL)))


def test_everything_is_found_by_one_selector() -> None:
    for made in surroundings(FULL):
        assert made["metadata"]["labels"] == {
            "app.kubernetes.io/instance": "demo",
            "app.kubernetes.io/managed-by": "eksml",
        }


def test_names_do_not_collide_between_namespaces_nor_among_themselves() -> None:
    other = FULL.model_copy(update={"namespace": "team-b"})

    def shared(spec: Cluster) -> list[tuple[str, str]]:
        return [
            (made["kind"], made["metadata"]["name"])
            for made in surroundings(spec)
            if "namespace" not in made["metadata"]
        ]

    assert len(set(shared(FULL))) == len(shared(FULL)) > 0
    assert not set(shared(FULL)) & set(shared(other))


# identity


def test_the_service_account_is_named_like_the_cluster_and_carries_the_role() -> None:
    (account,) = of_kind(FULL, "ServiceAccount")
    assert account["metadata"]["name"] == "demo"
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": ROLE}


def test_pod_identity_needs_no_annotation() -> None:
    (account,) = of_kind(cluster(identity={"service_account": "trainer"}), "ServiceAccount")
    assert account["metadata"]["name"] == "trainer"
    assert "annotations" not in account["metadata"]


def test_the_autoscaler_may_see_pods_and_patch_its_cluster_and_nothing_else() -> None:
    spec = cluster(groups=(cpu(nodes=(0, 2)),), identity={"service_account": "trainer"})
    (role,), (binding,) = of_kind(spec, "Role"), of_kind(spec, "RoleBinding")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "patch"]},
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "trainer", "namespace": "team-a"}
    ]


def test_without_autoscaling_nobody_gets_a_role() -> None:
    assert not of_kind(cluster(groups=(cpu(nodes=2),)), "Role")


def test_a_token_goes_into_the_secret_that_the_specification_names() -> None:
    spec = cluster(security={"token_secret": "ray-token"})
    secret = token_secret(spec, "s3cret")
    assert_valid(secret)
    assert secret["metadata"]["name"] == "ray-token"
    assert base64.b64decode(secret["data"]["auth_token"]) == b"s3cret"
    assert not of_kind(spec, "Secret")


def test_a_token_without_a_name_or_of_white_space_is_refused() -> None:
    with pytest.raises(InvalidSpec) as refused:
        token_secret(cluster(), " \n")
    assert [problem.path for problem in refused.value.problems] == [
        "security.token_secret",
        "token",
    ]


# quota


def test_under_a_quota_containers_that_ask_for_nothing_are_given_a_little() -> None:
    (limit_range,) = of_kind(FULL, "LimitRange")
    (item,) = limit_range["spec"]["limits"]
    assert item == {
        "type": "Container",
        "default": {"memory": "512Mi"},
        "defaultRequest": {"cpu": "250m"},
    }


def test_a_quota_on_devices_alone_needs_no_defaults() -> None:
    spec = cluster(quota={"limits": {"requests.nvidia.com/gpu": 32}})
    (quota,) = of_kind(spec, "ResourceQuota")
    assert quota["spec"]["hard"] == {"requests.nvidia.com/gpu": "32"}
    assert not of_kind(spec, "LimitRange")


# disruption


def test_the_head_and_workers_that_are_not_on_spot_cannot_be_evicted() -> None:
    budgets = {
        made["spec"]["selector"]["matchLabels"]["ray.io/group"]: made["spec"]["minAvailable"]
        for made in of_kind(FULL, "PodDisruptionBudget")
    }
    assert budgets == {"headgroup": 1, "gpu": 4}


def test_a_group_says_for_itself_whether_it_is_protected() -> None:
    spec = cluster(protected=False, groups=(cpu(nodes=3, protected=True), gpu("g6.12xlarge")))
    (budget,) = of_kind(spec, "PodDisruptionBudget")
    assert budget["metadata"]["name"] == "demo.cpu"


# storage


def test_a_bucket_is_a_volume_and_a_claim_bound_to_each_other() -> None:
    volume, claim = of_kind(FULL, "PersistentVolume")[0], of_kind(FULL, "PersistentVolumeClaim")[0]
    assert volume["spec"]["csi"]["volumeAttributes"]["bucketName"] == "data.sets"
    assert volume["spec"]["claimRef"] == {
        "namespace": "team-a",
        "name": claim["metadata"]["name"],
    }
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == volume["spec"]["storageClassName"] == ""
    assert volume["spec"]["mountOptions"] == [
        "allow-other",
        "uid=1000",
        "gid=100",
        "region us-east-1",
        "prefix v3/",
        "read-only",
    ]


def test_pods_read_buckets_with_their_own_role_not_with_the_drivers() -> None:
    (volume, _) = of_kind(FULL, "PersistentVolume")
    assert volume["spec"]["csi"]["volumeAttributes"]["authenticationSource"] == "pod"
    bare = FULL.model_copy(update={"identity": type(FULL.identity)(pod_identity=False)})
    (volume, _) = of_kind(bare, "PersistentVolume")
    assert "authenticationSource" not in volume["spec"]["csi"]["volumeAttributes"]


def test_a_bucket_mounted_twice_is_one_claim_and_like_named_buckets_are_two() -> None:
    def mounting(*buckets: str) -> Cluster:
        groups = [
            cpu(name=f"g{index}", mounts=({"kind": "s3", "bucket": bucket, "path": "/data"},))
            for index, bucket in enumerate(buckets)
        ]
        return cluster(groups=tuple(groups))

    assert len(of_kind(mounting("a.bc", "a.bc"), "PersistentVolumeClaim")) == 1
    names = {
        made["metadata"]["name"]
        for made in of_kind(mounting("a.bc", "a-bc"), "PersistentVolumeClaim")
    }
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_claims_that_are_there_already_are_left_alone() -> None:
    mounts = (
        {"kind": "fsx", "claim": "fsx", "path": "/fsx"},
        {"kind": "claim", "claim": "home", "path": "/home/work"},
        {"kind": "secret", "secret": "hub", "path": "/secrets/hub"},
    )
    assert not of_kind(cluster(mounts=mounts), "PersistentVolumeClaim")


# monitoring, queue


def test_prometheus_finds_every_ray_pod_and_names_its_cluster() -> None:
    (monitor,) = of_kind(FULL, "PodMonitor")
    assert monitor["spec"]["selector"]["matchLabels"]["ray.io/is-ray-node"] == "yes"
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert endpoint["relabelings"][0] == {
        "action": "replace",
        "sourceLabels": ["__meta_kubernetes_pod_label_ray_io_cluster"],
        "targetLabel": "ray_io_cluster",
    }
    assert not of_kind(cluster(monitoring=False), "PodMonitor")


def test_a_local_queue_leads_from_the_namespace_to_the_cluster_queue_that_is_named() -> None:
    [made] = queue(cluster(queue={"name": "team-a", "cluster_queue": "research"}))
    assert (made["kind"], made["metadata"]["name"]) == ("LocalQueue", "team-a")
    assert made["spec"] == {"clusterQueue": "research"}
    assert made in surroundings(cluster(queue={"name": "team-a", "cluster_queue": "research"}))
    assert queue(cluster(queue={"name": "team-a"})) == []


def test_only_kueue_has_local_queues() -> None:
    with pytest.raises(InvalidSpec, match=r"queue\.cluster_queue: 'research' is of Kueue"):
        cluster(queue={"name": "root.a", "kind": "yunikorn", "cluster_queue": "research"})
