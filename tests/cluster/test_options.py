"""What holds for a whole cluster, refused where it contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import Cluster
from eksml.cluster import HeadState, Identity, Queue, Quota
from eksml.errors import InvalidSpec

TAGS = {"karpenter.sh/discovery": "ml"}


def problems_of(**fields: Any) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        Cluster(**({"name": "x"} | fields))
    return {problem.path: str(problem) for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("fields", "path", "told"),
    [
        ({"namespace": "Team"}, "namespace", "not a namespace"),
        ({"namespace": "kube-system"}, "namespace", "Kubernetes itself"),
        ({"region": "virginia"}, "region", "such as us-east-1"),
        ({"ray_version": "2.60"}, "ray_version", "such as 2.60.0"),
        ({"autoscaling": {"idle_timeout_s": 0}}, "autoscaling.idle_timeout_s", "equal to 1"),
        ({"autoscaling": {"upscaling": "fast"}}, "autoscaling.upscaling", "'aggressive'"),
        ({"identity": {"role_arn": "ray"}}, "identity.role_arn", "ARN of a role"),
        ({"identity": {"service_account": "default"}}, "identity.service_account", "every pod"),
        ({"security": {"token_secret": "A"}}, "security.token_secret", "Kubernetes object"),
        (
            {"security": {"network_policy": False, "clients": [{}]}},
            "security.clients",
            "network_policy: false",
        ),
        (
            {"security": {"clients": [{"labels": {"a b": "c"}}]}},
            "security.clients.0.labels.a b",
            "label key",
        ),
        ({"operator": {"gates": ["RayCron"]}}, "operator.gates", "They are: RayCronJob"),
        ({"operator": {"version": "v1"}}, "operator.version", "such as 1.7.0"),
        ({"queue": {"name": ""}}, "queue.name", "at least 1"),
        ({"queue": {"name": "Team"}}, "queue.name", "queue of kueue"),
        (
            {"queue": {"name": "root.a", "kind": "yunikorn", "priority": "high"}},
            "queue.priority",
            "priority_class of groups",
        ),
        ({"queue": {"name": "a", "kind": "slurm"}}, "queue.kind", "'volcano'"),
        ({"quota": {"limits": {}}}, "quota.limits", "at least 1"),
        ({"quota": {"limits": {"cpu": "many"}}}, "quota.limits.cpu", "Kubernetes quantity"),
        (
            {"karpenter": {"node_role": "r", "subnets": {}, "security_groups": TAGS}},
            "karpenter.subnets",
            "at least 1",
        ),
        (
            {
                "karpenter": {
                    "node_role": "r",
                    "subnets": TAGS,
                    "security_groups": TAGS,
                    "ami": "ami-1",
                }
            },
            "karpenter.ami",
            "match pattern",
        ),
        ({"env": {"RAY_AUTH_MODE": "disabled"}}, "env.RAY_AUTH_MODE", "always on"),
    ],
)
def test_a_wrong_option_is_refused_with_its_path(
    fields: dict[str, Any], path: str, told: str
) -> None:
    (problem,) = problems_of(**fields).items()
    assert problem[0] == path
    assert told in problem[1]


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("nvidia.com/gpu", "requests.nvidia.com/gpu"),
        ("limits.nvidia.com/gpu", "requests.nvidia.com/gpu"),
        ("limits.cpu", "requests.cpu"),
        ("limits.storage", "limits.memory"),
        ("gpus", "requests.nvidia.com/gpu"),
        ("count/", "pods"),
    ],
)
def test_what_kubernetes_cannot_limit_is_refused(key: str, remedy: str) -> None:
    told = problems_of(quota={"limits": {key: "1"}})
    assert remedy in told[f"quota.limits.{key}"]


def test_a_quota_takes_numbers_as_yaml_has_them() -> None:
    limits = {"requests.nvidia.com/gpu": 32, "limits.memory": "2Ti", "pods": 40, "cpu": "500m"}
    more = {
        "gp3.storageclass.storage.k8s.io/requests.storage": "1Ti",
        "count/jobs.batch": 3,
        "requests.hugepages-2Mi": "5Gi",
    }
    quota = Quota(limits=limits | more)  # type: ignore[arg-type]
    assert quota.limits["requests.nvidia.com/gpu"] == "32"


@pytest.mark.parametrize(
    ("fields", "paths"),
    [
        ({"store": "redis"}, {"redis_address"}),
        ({"store": "redis", "redis_address": "redis"}, {"redis_address"}),
        (
            {"store": "redis", "redis_address": "r:6379", "size": "1Gi", "claim": "c"},
            {"size", "claim"},
        ),
        ({"store": "rocksdb", "redis_secret": "s"}, {"redis_secret"}),
        ({"store": "rocksdb", "claim": "c", "size": "1Gi"}, {"size"}),
        ({"store": "rocksdb", "claim": "c", "storage_class": "gp3"}, {"storage_class"}),
        ({"store": "etcd"}, {"store"}),
    ],
)
def test_the_heads_tables_lie_in_one_place(fields: dict[str, Any], paths: set[str]) -> None:
    assert set(problems_of(head_state=fields)) == {f"head_state.{path}" for path in paths}


def test_a_volume_for_the_heads_tables_has_10_gi_unless_said() -> None:
    assert HeadState(store="rocksdb").volume_bytes == 10 * 1024**3
    assert HeadState(store="rocksdb", size=1024).volume_bytes == 1024


def test_names_of_queues_are_those_of_their_kind() -> None:
    assert Queue(name="root.Team-A", kind="yunikorn").name == "root.Team-A"
    assert Queue(name="team-a", priority="high").kind == "kueue"


def test_roles_of_every_partition_are_taken() -> None:
    for partition in ("aws", "aws-cn", "aws-us-gov"):
        arn = f"arn:{partition}:iam::123456789012:role/path/ray"
        assert Identity(role_arn=arn).role_arn == arn
