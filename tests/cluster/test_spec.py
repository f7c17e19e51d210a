"""A specification: the same in Python and in YAML, and refused with every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from strategies import MODEST, eks_clusters, local_clusters

import eksml
from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import (
    Autoscaling,
    ClaimMount,
    Client,
    FsxMount,
    Head,
    HeadState,
    Identity,
    Karpenter,
    Operator,
    Queue,
    Quota,
    RayCronSpec,
    RayJobSpec,
    RayServiceSpec,
    S3Mount,
    SecretMount,
    Security,
    Toleration,
    WorkerGroup,
)
from eksml.errors import InvalidSpec

CLUSTERS = Path(__file__).resolve().parents[2] / "clusters"


def problems_of(source: str) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as refused:
        Cluster.from_yaml(source)
    return {
        problem.path: f"{problem.message} {problem.remedy}" for problem in refused.value.problems
    }


@MODEST
@given(local_clusters)
def test_yaml_and_python_are_the_same_both_ways(cluster: Cluster) -> None:
    assert Cluster.from_yaml(cluster.to_yaml()) == cluster


@MODEST
@given(eks_clusters())
def test_on_eks_yaml_and_python_are_the_same_both_ways(cluster: Cluster) -> None:
    assert Cluster.from_yaml(cluster.to_yaml()) == cluster
    here = cluster.model_copy(update={"backend": "local"})
    assert here.model_copy(update={"backend": "eks"}) == cluster, "one file for both places"


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")))
def test_any_text_survives_yaml(text: str) -> None:
    cluster = Cluster(name="x", env={"X": text})
    assert Cluster.from_yaml(cluster.to_yaml()).env == {"X": text}


@pytest.mark.parametrize("path", sorted(CLUSTERS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_recipe_is_valid(path: Path) -> None:
    assert Cluster.load(path).name == path.stem


def test_a_file_reads_as_a_person_writes_it() -> None:
    cluster = Cluster.from_yaml("""
        name: mine
        head: {cpus: 0}
        groups:
          - {name: l4, instance: g6.12xlarge, nodes: [0, 8], market: spot}
          - {name: any, instance: [m7i.4xlarge, m7a.4xlarge]}
          - {name: big, cpus: 8, memory: 64Gi, nodes: 2, resources: {disk: 1.5}}
    """)
    assert cluster.groups == (
        gpu("g6.12xlarge", name="l4", nodes=(0, 8), market="spot"),
        cpu(("m7i.4xlarge", "m7a.4xlarge"), name="any"),
        cpu(name="big", cpus=8, memory="64Gi", nodes=2, resources={"disk": 1.5}),
    )
    assert cluster.groups[2].memory == 64 * 1024**3


def test_the_first_lines_of_a_written_file_say_what_it_is() -> None:
    text = Cluster(name="mine", groups=(cpu(cpus=4, nodes=(1, 3)),)).to_yaml()
    assert text == "name: mine\ngroups:\n- name: cpu\n  cpus: 4\n  nodes:\n  - 1\n  - 3\n"


def test_all_problems_are_told_at_once_each_with_its_path() -> None:
    told = problems_of("""
        name: Not_A_Name
        head: {cpus: -1, dashboard_port: 80}
        groups:
          - {name: a, nodez: 3, gpus: "1", labels: {ray.io/market-type: spot}}
          - {name: b, nodes: [3, 1], market: spott, memory: 4GB, resources: {CPU: 2}}
          - {name: head}
        env: {RAY_AUTH_MODE: disabled, X: 1}
        notice: 3
    """)
    assert set(told) == {
        "name",
        "head.cpus",
        "head.dashboard_port",
        "groups.0.nodez",
        "groups.0.gpus",
        "groups.0.labels.ray.io/market-type",
        "groups.1.nodes",
        "groups.1.market",
        "groups.1.memory",
        "groups.1.resources.CPU",
        "groups.2.name",
        "env.RAY_AUTH_MODE",
        "env.X",
        "notice",
    }
    assert "Did you mean 'nodes'?" in told["groups.0.nodez"]
    assert "Did you mean 'notice_s'?" in told["notice"]
    assert "field 'cpus'" in told["groups.1.resources.CPU"]
    assert "min 3 is more than max 1" in told["groups.1.nodes"]


def test_python_is_checked_by_the_same_rules() -> None:
    with pytest.raises(InvalidSpec) as refused:
        Cluster(name="x", groups=[{"name": "a", "cpus": -1}, {"name": "b", "nodez": 1}])  # type: ignore[arg-type,list-item]
    assert [p.path for p in refused.value.problems] == ["groups.0.cpus", "groups.1.nodez"]
    with pytest.raises(InvalidSpec, match="Did you mean 'nodes'"):
        cpu(node=3)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"nodes": (0, 2), "replicas": 3}, "replicas 3 is not within"),
        ({"nodes": True}, "number of nodes"),
        ({"nodes": -1}, "greater than or equal to 0"),
        ({"gpus": True}, "valid integer"),
        ({"cpus": 1.5}, "valid integer"),
        ({"resources": {"disk": 0}}, "greater than 0"),
        ({"resources": {"disk": float("inf")}}, "finite"),
        ({"memory": "lots"}, "amount of memory"),
        ({"labels": {"a b": "c"}}, "label key"),
        ({"labels": {"a": "c d"}}, "label value"),
        ({"labels": {"ray.io/node-group": "x"}}, "set by eksml"),
    ],
)
def test_wrong_groups_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        cpu(**fields)


@pytest.mark.parametrize(
    "name", ["", "9lives", "Upper", "under_score", "end-", "x" * 54, "a/b", ".."]
)
def test_names_that_kuberay_would_refuse_are_refused(name: str) -> None:
    with pytest.raises(InvalidSpec, match="DNS-1035"):
        Cluster(name=name)
    assert Cluster(name="x" * 53).name == "x" * 53


def test_group_names_are_unique() -> None:
    with pytest.raises(InvalidSpec, match="more than one is named cpu"):
        Cluster(name="x", groups=(cpu(), cpu()))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "does not hold fields"),
        ("[1, 2]", "does not hold fields"),
        ("name: [", "not valid YAML"),
        ("name: a\nname: b", "written twice"),
        ("name: !!python/object:os.system x", "not valid YAML"),
        ("{a: 1, ? [b] : 2}", "not valid YAML"),
    ],
)
def test_what_is_not_a_specification_is_refused(text: str, told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        Cluster.from_yaml(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"gone\.yaml"):
        Cluster.load(tmp_path / "gone.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSpec, match=r"binary\.yaml"):
        Cluster.load(binary)


def test_a_specification_is_frozen() -> None:
    cluster = Cluster(name="x")
    with pytest.raises(Exception, match="frozen"):
        cluster.name = "y"


def test_a_changed_copy_is_checked_as_well() -> None:
    cluster = Cluster(name="x", groups=(gpu(),))
    assert cluster.model_copy(update={"name": "y"}) == Cluster(name="y", groups=(gpu(),))
    with pytest.raises(InvalidSpec, match=r"groups\.0\.instance: is missing"):
        cluster.model_copy(update={"backend": "eks"})


def test_constructors_know_what_their_kind_of_node_has() -> None:
    assert gpu().gpus == 1
    assert neuron().neuron_cores == 2
    assert gpu("g6.12xlarge").gpus is None, "the instance type will tell"
    assert neuron("trn1.32xlarge", neuron_cores=32).neuron_cores == 32
    assert eksml.cpu is cpu


def test_labels_of_a_node_say_group_market_and_accelerator() -> None:
    labels = gpu(market="spot", accelerator="L4", labels={"team": "a"}).node_labels()
    assert labels == {
        "team": "a",
        "ray.io/node-group": "gpu",
        "ray.io/market-type": "spot",
        "ray.io/accelerator-type": "L4",
    }


MODELS = (
    Cluster, Head, WorkerGroup, Autoscaling, ClaimMount, Client, FsxMount, HeadState, Identity,
    Karpenter, Operator, Queue, Quota, RayCronSpec, RayJobSpec, RayServiceSpec, S3Mount,
    SecretMount, Security, Toleration,
)  # fmt: skip


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_explains_itself(model: type[BaseModel]) -> None:
    assert model.__doc__
    undescribed = [name for name, field in model.model_fields.items() if not field.description]
    assert undescribed == []
