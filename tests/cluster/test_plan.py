"""The whole answer before money is spent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from strategies import eks_clusters

from eksml import Cluster, cpu, gpu
from eksml.cluster import Head
from eksml.cluster.diff import diff
from eksml.cluster.mounts import S3Mount
from eksml.cluster.options import HeadState, Karpenter, Operator, Queue, Quota
from eksml.cluster.plan import Plan, plan
from eksml.cluster.render import objects
from eksml.cluster.report import COLUMNS
from eksml.cluster.workloads import RayJobSpec, RayServiceSpec

FILES = sorted((Path(__file__).parents[2] / "clusters").glob("*.yaml"))
ECR = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ray:2.60.0-py311-gpu"
KEPT = HeadState(store="redis", redis_address="redis.team:6379")
TAGS = {"karpenter.sh/discovery": "prod"}
POOLS = Karpenter(node_role="n", subnets=TAGS, security_groups=TAGS, limits={"cpu": "100"})
ZONE = ("us-east-1a",)


def cluster(*groups: Any, **fields: Any) -> Cluster:
    base = {"head": Head(instance="m7i.2xlarge"), "image": ECR, "head_state": KEPT}
    return Cluster(name="mine", backend="eks", groups=groups, **base | fields)


def plan_of(*groups: Any, **fields: Any) -> Plan:
    return plan(cluster(*groups, **fields))


TRAIN = gpu("p5.48xlarge", name="train", nodes=4, efa=True, zones=ZONE)
SPOT = gpu("g6e.12xlarge", name="infer", nodes=(0, 16), market="spot")


def test_a_plan_holds_exactly_what_would_be_applied() -> None:
    spec = cluster(TRAIN, SPOT)
    assert list(plan(spec).objects) == objects(spec)
    assert plan(spec) == plan(spec)


def test_the_report_fits_a_terminal_and_says_what_matters() -> None:
    made = plan_of(TRAIN, SPOT)
    told = str(made)
    assert max(map(len, told.splitlines())) <= COLUMNS
    assert "4 × p5.48xlarge" in told
    assert "0–16 × g6e.12xlarge" in told
    assert re.search(rf"as written .*\${made.cost.usd.max:,.2f}$", told, re.MULTILINE)
    assert "L-417A185B" in told
    assert "L-3819A6DF" in told
    assert "RayCluster" in told.splitlines()[-1]


def test_the_report_in_a_notebook_escapes_what_it_shows() -> None:
    shown = plan_of(TRAIN)._repr_html_()
    assert "4 × p5.48xlarge" in shown
    assert shown.count("<table>") == shown.count("</table>") == 2


def test_a_plan_can_be_written_as_json() -> None:
    told = json.loads(json.dumps(plan_of(TRAIN, SPOT).to_dict()))
    assert told["ok"] is True
    assert told["groups"][2]["machines"] == {"min": 0, "start": 0, "max": 16}
    assert told["objects"] == objects(cluster(TRAIN, SPOT))


def test_pods_that_fit_nowhere_make_the_plan_impossible() -> None:
    sidecar = {
        "name": "x",
        "image": "x:1",
        "resources": {"requests": {"cpu": "9", "memory": "1Gi"}},
    }
    made = plan_of(gpu("g6.2xlarge", pod={"spec": {"containers": [sidecar]}}))
    assert [problem.path for problem in made.problems] == ["groups.0"]
    assert made.to_dict()["ok"] is False
    assert "CANNOT BE STARTED" in str(made)


def test_spot_says_what_can_be_reclaimed_and_what_is_lost() -> None:
    (risk,) = plan_of(TRAIN, SPOT).spot
    assert (risk.group, risk.pools) == ("infer", 3)
    assert "(3 assumed): 3 capacity pools" in risk.told
    assert "after the last checkpoint" in risk.told
    narrow = gpu("g6e.12xlarge", nodes=2, market="spot", zones=ZONE)
    assert "More instance types or zones" in plan_of(narrow).spot[0].told
    together = gpu("p5.48xlarge", nodes=2, market="spot", efa=True, zones=ZONE)
    assert "One reclaim stops the work of the whole group" in plan_of(together).spot[0].told


@pytest.mark.parametrize(
    ("fields", "group", "told"),
    [
        ({"head_state": None}, TRAIN, "head's state is not kept"),
        ({"image": "rayproject/ray:2.60.0-py311-gpu"}, TRAIN, "Mirror it to ECR"),
        ({}, gpu("p5.48xlarge", nodes=2, efa=True), "Name the zone where you have capacity"),
        ({}, gpu("p5.48xlarge", nodes=1, efa=True, zones=ZONE), "no use on a single node"),
        (
            {},
            gpu("p5.48xlarge", nodes=2, efa=True, zones=ZONE, market="spot"),
            "Consider a capacity block",
        ),
        ({"queue": Queue(name="team")}, SPOT, "from version 0.16 on"),
        (
            {"quota": Quota(limits={"requests.nvidia.com/gpu": "32"})},
            SPOT,
            "quota of 32 requests.nvidia.com/gpu keeps the cluster from its largest",
        ),
        ({"quota": Quota(limits={"pods": "10"})}, SPOT, "quota of 10 pods"),
        ({"karpenter": POOLS}, SPOT, "limits of 100 cpu keeps it from its largest, 16 × g6e"),
    ],
)
def test_a_careful_colleague_would_warn(fields: dict[str, Any], group: Any, told: str) -> None:
    assert any(told in warning for warning in plan_of(group, **fields).warnings)


def test_a_plain_cluster_is_not_warned_about() -> None:
    assert plan_of(TRAIN, SPOT).warnings == ()


def test_alpha_features_of_the_operator_are_named_where_they_are_used() -> None:
    assert plan_of(TRAIN).gates == ()
    gate = "GCSFaultToleranceEmbeddedStorage"
    made = plan_of(TRAIN, head_state=None, operator=Operator(gates=(gate,)))
    assert [gate.name for gate in made.gates] == [gate]
    assert gate in str(made)


def test_what_must_be_installed_follows_from_what_is_used() -> None:
    assert plan_of(TRAIN).addons == (
        "KubeRay 1.7.0",
        "NVIDIA device plugin",
        "EFA device plugin",
        "EKS Pod Identity agent",
        "Prometheus operator",
        "network policies in the VPC CNI",
    )
    mount = S3Mount(bucket="weights", path="/weights")
    more = plan_of(SPOT, mounts=(mount,), queue=Queue(name="team"), karpenter=POOLS).addons
    assert {"Mountpoint for S3 CSI driver", "Kueue", "Karpenter"} <= set(more)


def test_a_job_or_a_service_is_planned_with_the_cluster_it_brings() -> None:
    spec = cluster(TRAIN, SPOT)
    job = RayJobSpec(entrypoint="python train.py")
    assert plan(spec, job).objects[-1]["kind"] == "RayJob"
    assert plan(spec, job).cost == plan(spec).cost
    there = RayJobSpec(
        entrypoint="python train.py", selector={"ray.io/cluster": "mine"}, mode="http"
    )
    assert plan(spec, there).cost == plan(spec).cost
    app = {"name": "llm", "route_prefix": "/", "import_path": "llm:app"}
    service = RayServiceSpec(serve_config={"applications": [app]}, surge=50)
    assert any("up to 50 % more machines" in told for told in plan(spec, service).warnings)


def test_a_specification_for_a_laptop_can_be_planned_for_eks() -> None:
    spec = Cluster(name="laptop", groups=(cpu(cpus=4, nodes=2),))
    assert plan(spec).fit.groups[1].machines.max > 0


@given(spec=eks_clusters())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_whatever_is_accepted_can_be_planned_fits_and_is_no_change_to_itself(spec: Cluster) -> None:
    made = plan(spec)
    assert made.problems == ()
    assert str(made)
    assert made.cost.usd.min <= made.cost.usd.start <= made.cost.usd.max
    assert json.loads(json.dumps(made.to_dict()))["cluster"] == spec.name
    assert diff(made.objects, made.objects) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_clusters_to_start_from_can_be_had_as_they_are_written(file: Path) -> None:
    made = plan(Cluster.load(file))
    assert made.problems == ()
    assert max(map(len, str(made).splitlines())) <= COLUMNS
