"""What EKS and KubeRay cannot do is refused when the specification is made, all at once."""

from __future__ import annotations

from typing import Any

import pytest

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import Autoscaling, Head, HeadState, Karpenter, Operator, Quota, WorkerGroup
from eksml.errors import InvalidSpec

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/trainer:1.4.2"
ROCKSDB = Operator(gates=("GCSFaultToleranceEmbeddedStorage",))
KARPENTER = Karpenter(node_role="nodes", subnets={"a": "b"}, security_groups={"a": "b"})


def on_eks(*groups: WorkerGroup, **fields: Any) -> Cluster:
    return Cluster(name="x", backend="eks", groups=groups, **fields)


def refused(*groups: WorkerGroup, **fields: Any) -> dict[str, str]:
    """The path of each problem, and what it says."""
    with pytest.raises(InvalidSpec) as error:
        on_eks(*groups, **fields)
    return {problem.path: str(problem) for problem in error.value.problems}


def test_everything_that_is_wrong_is_told_at_once() -> None:
    told = refused(
        gpu("g6.12xlrge"),
        gpu("m7i.4xlarge", name="cpus", gpus=1, efa=True, priority=3),
        neuron("trn1.32xlarge"),
        env={"RAY_REDIS_ADDRESS": "redis:6379"},
        ray_version="2.40.0",
        operator=Operator(version="1.3.0"),
        head_state=HeadState(store="rocksdb"),
    )
    assert set(told) == {
        "groups.0.instance",
        "groups.1.gpus",
        "groups.1.efa",
        "groups.1.priority",
        "groups.2.image",
        "env.RAY_REDIS_ADDRESS",
        "ray_version",
        "operator.version",
        "head_state.store",
    }
    assert "g6.12xlarge" in told["groups.0.instance"], "the nearest names"
    assert "GCSFaultToleranceEmbeddedStorage" in told["head_state.store"]


def test_the_same_file_is_no_problem_on_a_laptop() -> None:
    groups = (gpu("g6.12xlrge", gpus=1, cpus=1), neuron(name="n", priority=1))
    assert Cluster(name="x", groups=groups, ray_version="2.40.0").backend == "local"


@pytest.mark.parametrize(
    ("group", "path", "told"),
    [
        (gpu(), "instance", "such as g4dn.xlarge, g5.xlarge"),
        (gpu(accelerator="L4"), "instance", "g6.xlarge"),
        (gpu(gpus=8, accelerator="H100"), "instance", "p5.48xlarge"),
        (neuron(image=IMAGE), "instance", "such as inf2.xlarge"),
        (cpu(accelerator="L4"), "accelerator", "nothing brings the pods"),
        (gpu("g6.12xlarge", gpus=2), "gpus", "2, but a pod on g6.12xlarge has 4"),
        (gpu("g6.12xlarge", gpus=4, pods_per_node=4), "gpus", "has 1"),
        (gpu("g6.12xlarge", pods_per_node=3), "pods_per_node", "4 GPUs of g6.12xlarge do not"),
        (gpu("g6.12xlarge", accelerator="H100"), "accelerator", "has L4"),
        (gpu("g6.12xlarge", cpus=48), "cpus", "has 47"),
        (gpu("g6.xlarge", memory="14Gi"), "memory", "a pod on g6.xlarge has"),
        (gpu("g6.xlarge", shm="16Gi"), "shm", "in all"),
        (gpu("g6.xlarge", object_store_memory="1Mi"), "object_store_memory", "Ray needs 80Mi"),
        (cpu(memory="4Gi", object_store_memory="1Mi"), "object_store_memory", "Ray needs 80Mi"),
        (cpu("g6.xlarge", gpus=0), "gpus", "0, but a pod on g6.xlarge has 1"),
        (cpu("m7g.medium"), "instance", "0.7 CPUs"),
        (cpu("m7i.large", pods_per_node=2), "pods_per_node", "0.8 CPUs"),
        (cpu("m7i.large", scratch="10Gi"), "scratch", "no local disk"),
        (gpu("g6.xlarge", scratch="1Ti"), "scratch", "Ask for at most"),
        (gpu("g6.xlarge", efa=True), "efa", "g6.8xlarge"),
        (gpu(("g5.12xlarge", "g6.12xlarge")), "instance", "4 A10G, the other 4 L4"),
        (gpu(("g6.12xlarge", "g6.48xlarge")), "instance", "4 L4, the other 8 L4"),
        (cpu(("m7i.large", "m7g.large")), "instance", "different images"),
        (cpu(("m7i.large", "m7ii.large")), "instance.1", "m7i.large"),
        (cpu("m7g.large", node_selector={"kubernetes.io/arch": "amd64"}), "node_selector", "arm64"),
        (cpu(zones=("eu-west-1a",)), "zones.0", "not in us-east-1"),
        (cpu(idle_timeout_s=60), "idle_timeout_s", "nothing scales"),
        (cpu(priority=1), "priority", "nothing scales"),
        (cpu(env={"RAY_enable_autoscaler_v2": "1"}), "env", "set from autoscaling"),
        (cpu(resources={"it's": 1}), "resources", "cannot be given to Ray"),
    ],
)  # fmt: skip
def test_a_group_that_no_node_can_hold_is_refused(group: WorkerGroup, path: str, told: str) -> None:
    (problem,) = refused(group).items()
    assert problem[0].startswith(f"groups.0.{path}")
    assert told in problem[1]


@pytest.mark.parametrize(
    ("head", "path", "told"),
    [
        (Head(cpus=5), "cpus", "the head's pod has 4"),
        (Head(instance="m7i.xlarge", cpus=3), "cpus", "the head's pod has 2"),
        (Head(instance="m7i.xlarge", pod_cpus=3), "pod_cpus", "beside KubeRay's sidecars"),
        (Head(instance="m7i.xlarge", pod_memory="16Gi"), "pod_memory", "beside KubeRay's sidecars"),
        (Head(instance="m7i.large"), "instance", "too small"),
        (Head(gpus=1), "instance", "is missing"),
        (Head(instance="g6.2xlarge"), "gpus", "0, but g6.2xlarge has 1"),
        (Head(memory="20Gi"), "memory", "the head's pod has 16.0Gi"),
        (Head(env={"FQ_RAY_IP": "x"}), "env.FQ_RAY_IP", "set from the operator"),
    ],
)
def test_a_head_that_no_node_can_hold_is_refused(head: Head, path: str, told: str) -> None:
    (problem,) = refused(head=head).items()
    assert problem[0] == f"head.{path}"
    assert told in problem[1]


def test_priority_needs_a_ray_whose_autoscaler_knows_it() -> None:
    group = cpu(nodes=(0, 2), priority=1)
    assert "needs Ray 2.56" in refused(group, ray_version="2.55.1")["groups.0.priority"]
    assert on_eks(group, ray_version="2.56.0")


def test_a_spot_node_must_be_gone_within_two_minutes() -> None:
    assert "notice_s" in refused(cpu(market="spot"), notice_s=101)
    assert on_eks(cpu(), notice_s=600)


def test_karpenter_is_told_which_reservation_to_use() -> None:
    group = gpu("p5.48xlarge", market="reserved")
    assert on_eks(group), "nodes that are there already"
    assert "groups.0.capacity_reservation" in refused(group, karpenter=KARPENTER)
    selected = group.model_copy(update={"node_selector": {"karpenter.sh/nodepool": "p5"}})
    assert on_eks(selected, karpenter=KARPENTER)


def test_pods_that_the_quota_would_keep_out_are_refused() -> None:
    def limited(**limits: Any) -> Quota:
        return Quota(limits={"requests.nvidia.com/gpu": 7, **limits})

    group = gpu("g6.12xlarge", nodes=(2, 8))
    told = refused(group, quota=limited(pods=2, cpu="10"))
    assert "7, but the cluster starts with 8" in told["quota.limits.requests.nvidia.com/gpu"]
    assert "2, but the cluster starts with 3" in told["quota.limits.pods"]
    assert "10, but the cluster starts with 99" in told["quota.limits.cpu"]
    assert on_eks(group.model_copy(update={"nodes": (1, 8)}), quota=limited(pods=2))


def test_the_autoscaler_runs_exactly_if_something_may_grow() -> None:
    assert not on_eks(cpu(nodes=3)).autoscaled
    assert on_eks(cpu(nodes=(0, 3))).scaling == Autoscaling()
    assert on_eks(cpu(), autoscaling={"idle_timeout_s": 60}).scaling.idle_timeout_s == 60


def test_the_head_keeps_its_tables_where_the_operator_can() -> None:
    assert on_eks().state is None
    assert on_eks(operator=ROCKSDB).state == HeadState(store="rocksdb")
    redis = HeadState(store="redis", redis_address="redis.team:6379")
    assert on_eks(operator=ROCKSDB, head_state=redis).state == redis


def test_the_ray_version_is_that_of_here_unless_said() -> None:
    import ray

    assert on_eks().ray == ray.__version__
    assert on_eks(ray_version="2.59.0").ray == "2.59.0"
