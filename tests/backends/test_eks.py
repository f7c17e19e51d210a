"""What AWS knows about an EKS cluster: node groups, landing, quotas, identity.

moto's server answers over real HTTP; for the two services that it lacks there is a fake.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from backends.fake_aws import FakeAws
from botocore.exceptions import ClientError
from kube_server import KubeServer, kinds
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from eksml.backends import eks
from eksml.backends.eks.aws import translated
from eksml.backends.eks.create import Place, Reservation
from eksml.backends.eks.landing import landing
from eksml.backends.eks.nodegroups import from_node_group, with_instance_types
from eksml.backends.eks.trust import irsa_gap, pod_identity_gap
from eksml.cluster import Cluster, cpu, gpu, neuron
from eksml.cluster.plan import plan
from eksml.cluster.render import objects
from eksml.cluster.render.names import node_pool
from eksml.errors import ClusterError, ClusterInUse, ClusterNotUp, EksmlError, InvalidSpec

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/nodes"
KARPENTER = {
    "node_role": "nodes",
    "subnets": {"karpenter.sh/discovery": "ml"},
    "security_groups": {"karpenter.sh/discovery": "ml"},
}
POD_IDENTITY_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "pods.eks.amazonaws.com"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ],
}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def aws(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty account."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST"))


@pytest.fixture
def subnets(aws: None) -> dict[str, str]:
    """The EKS cluster ``ml`` with a private subnet in two zones and a public one: by zone."""
    ec2 = boto3.client("ec2", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    private = {
        zone: ec2.create_subnet(VpcId=vpc, CidrBlock=block, AvailabilityZone=zone)["Subnet"][
            "SubnetId"
        ]
        for zone, block in (("us-east-1a", "10.0.1.0/24"), ("us-east-1b", "10.0.2.0/24"))
    }
    public = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.3.0/24", AvailabilityZone="us-east-1a")
    name = public["Subnet"]["SubnetId"]
    ec2.modify_subnet_attribute(SubnetId=name, MapPublicIpOnLaunch={"Value": True})
    boto3.client("eks", region_name=REGION).create_cluster(
        name="ml",
        roleArn="arn:aws:iam::123456789012:role/eks",
        resourcesVpcConfig={"subnetIds": [*private.values(), name]},
    )
    return private


def add_node_group(name: str, subnets: list[str], **fields: Any) -> None:
    boto3.client("eks", region_name=REGION).create_nodegroup(
        clusterName="ml", nodegroupName=name, nodeRole=ROLE, subnets=subnets, **fields
    )


# Node groups


def test_node_groups_are_found_with_all_that_the_scheduler_asks(subnets: dict[str, str]) -> None:
    add_node_group(
        "gpu",
        [subnets["us-east-1a"]],
        instanceTypes=["g6.12xlarge"],
        capacityType="SPOT",
        amiType="AL2023_x86_64_NVIDIA",
        labels={"team": "ml"},
        taints=[{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}],
        scalingConfig={"minSize": 0, "maxSize": 4, "desiredSize": 0},
    )
    (found,) = eks.node_groups("ml", REGION)
    assert str(found) == "node group gpu"
    assert found.instances == ("g6.12xlarge",)
    assert found.labels["team"] == {"ml"}
    assert found.labels["topology.kubernetes.io/zone"] == {"us-east-1a"}
    assert found.labels["eks.amazonaws.com/capacityType"] == {"SPOT"}
    assert found.taints == (eks.Taint("nvidia.com/gpu"),)
    assert (found.most, found.ill) == (4, "")


def test_a_type_that_only_the_launch_template_names_is_found(subnets: dict[str, str]) -> None:
    template = boto3.client("ec2", region_name=REGION).create_launch_template(
        LaunchTemplateName="block", LaunchTemplateData={"InstanceType": "p5.48xlarge"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    add_node_group(
        "block",
        [subnets["us-east-1a"]],
        instanceTypes=[],
        launchTemplate={"id": template, "version": "1"},
    )
    # moto fills in a default type, AWS does not
    described = {"nodegroupName": "block", "launchTemplate": {"id": template, "version": "1"}}
    assert with_instance_types(described, REGION)["instanceTypes"] == ["p5.48xlarge"]


def test_an_ill_node_group_says_so() -> None:
    issue = {"code": "AsgInstanceLaunchFailures", "message": "Could not launch."}
    group = {"nodegroupName": "gpu", "status": "DEGRADED", "health": {"issues": [issue]}}
    assert from_node_group(group, {}).ill == "AsgInstanceLaunchFailures: Could not launch"
    failed = {"nodegroupName": "gpu", "status": "CREATE_FAILED"}
    assert from_node_group(failed, {}).ill == "its status is CREATE_FAILED"


def test_a_cluster_that_is_not_there_is_told_by_its_name(aws: None) -> None:
    # Not by node_groups: moto breaks where AWS answers ResourceNotFoundException
    with pytest.raises(ClusterNotUp, match=r"nowhere.*region"):
        eks.place_of("nowhere", REGION)


# Landing


def source(**fields: Any) -> eks.NodeSource:
    group = {
        "nodegroupName": "gpu",
        "instanceTypes": ["g6.12xlarge"],
        "capacityType": "ON_DEMAND",
        "amiType": "AL2023_x86_64_NVIDIA",
        "subnets": ["a"],
        "taints": [{"key": "nvidia.com/gpu", "effect": "NO_SCHEDULE"}],
        "scalingConfig": {"maxSize": 8},
    }
    return from_node_group(group | fields, {"a": "us-east-1a", "b": "us-east-1b"})


CPU_GROUP = {"nodegroupName": "cpu", "instanceTypes": ["m7i.4xlarge"], "taints": []}


def on_eks(*groups: Any, **fields: Any) -> Cluster:
    return Cluster(name="train", backend="eks", groups=groups, **fields)


def landed(spec: Cluster, *sources: eks.NodeSource) -> dict[str, eks.Landing]:
    return {one.group: one for one in eks.landings(spec, sources)}


def test_groups_land_where_type_market_and_taints_agree() -> None:
    spec = on_eks(gpu("g6.12xlarge", nodes=4), head={"instance": "m7i.4xlarge"})
    found = landed(spec, source(), source(**CPU_GROUP))
    assert found["headgroup"].on == ("node group cpu",)
    assert found["gpu"].on == ("node group gpu",)
    assert all(one.ok and not one.warning for one in found.values())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"instanceTypes": ["g5.12xlarge"]}, "offers g5.12xlarge, not g6.12xlarge"),
        ({"capacityType": "SPOT"}, "has the market SPOT, which is excluded"),
        ({"subnets": ["b"]}, "has the zone us-east-1b, not us-east-1a"),
        (
            {"taints": [{"key": "team", "value": "nlp", "effect": "NO_EXECUTE"}]},
            "has the taint team=nlp:NoExecute, which is not tolerated",
        ),
    ],
)
def test_a_group_that_cannot_land_is_told_why(fields: dict[str, Any], reason: str) -> None:
    spec = on_eks(gpu("g6.12xlarge", zones=["us-east-1a"]))
    told = landed(spec, source(**fields))["gpu"]
    assert not told.ok
    assert told.problem == f"can land nowhere: node group gpu {reason}."
    assert "eksml nodegroup" in told.remedy


def test_of_several_sources_the_nearest_is_told_first() -> None:
    spec = on_eks(gpu("g6.12xlarge", zones=["us-east-1a"]))
    far = source(nodegroupName="far", capacityType="SPOT", subnets=["b"])
    near = source(nodegroupName="near", subnets=["b"])
    problem = landed(spec, far, near)["gpu"].problem
    assert problem.index("node group near") < problem.index("node group far")


def test_a_preferred_taint_keeps_nobody_off() -> None:
    taints = [{"key": "old", "effect": "PREFER_NO_SCHEDULE"}]
    assert landed(on_eks(gpu("g6.12xlarge")), source(taints=taints))["gpu"].ok


def test_a_node_group_that_is_too_small_is_a_warning() -> None:
    spec = on_eks(gpu("g6.12xlarge", nodes=(0, 32), pods_per_node=2))
    told = landed(spec, source())["gpu"]
    assert told.ok
    assert told.warning == "But they have room for 8 of its 16 machines at most."


def test_a_node_group_that_is_ill_is_a_warning() -> None:
    issue = {"code": "AccessDenied", "message": "no"}
    told = landed(on_eks(gpu("g6.12xlarge")), source(health={"issues": [issue]}))["gpu"]
    assert (told.ok, "AccessDenied: no" in told.warning) == (True, True)


def test_without_any_source_nothing_lands() -> None:
    told = landed(on_eks(cpu("m7i.4xlarge")))["cpu"]
    assert told.problem == "there is no node group and no NodePool."


def test_the_pools_that_a_specification_brings_take_its_groups() -> None:
    groups = (
        gpu("g6.12xlarge", nodes=(0, 4)),
        neuron("trn1.2xlarge", image="neuron:1"),
        cpu(cpus=2),
    )
    spec = on_eks(*groups, karpenter=KARPENTER)
    found = landed(spec)
    assert {name: one.on for name, one in found.items()} == {
        name: (f"NodePool {node_pool(spec, name)}",)
        for name in ("headgroup", "gpu", "neuron", "cpu")
    }
    assert not any(one.warning for one in found.values())


def pool(*requirements: tuple[str, str, list[str]], **spec: Any) -> eks.NodeSource:
    listed = [{"key": key, "operator": op, "values": values} for key, op, values in requirements]
    template = {"spec": {"requirements": listed}}
    return eks.from_node_pool({"metadata": {"name": "any"}, "spec": {"template": template} | spec})


@pytest.mark.parametrize(
    ("requirement", "lands"),
    [
        (("karpenter.k8s.aws/instance-category", "In", ["c", "m"]), True),
        (("karpenter.k8s.aws/instance-category", "NotIn", ["m"]), False),
        (("karpenter.k8s.aws/instance-generation", "Gt", ["6"]), True),
        (("karpenter.k8s.aws/instance-generation", "Gt", ["7"]), False),
        (("karpenter.k8s.aws/instance-cpu", "Lt", ["16"]), False),
        (("kubernetes.io/arch", "In", ["arm64"]), False),
        (("karpenter.sh/capacity-type", "In", ["spot"]), False),
        (("karpenter.sh/capacity-type", "In", ["spot", "on-demand"]), True),
    ],
)
def test_a_pools_requirements_are_judged(
    requirement: tuple[str, str, list[str]], lands: bool
) -> None:
    assert landed(on_eks(cpu("m7i.4xlarge")), pool(requirement))["cpu"].ok is lands


def test_a_pools_limits_are_counted_in_machines() -> None:
    told = landed(on_eks(cpu("m7i.4xlarge", nodes=(1, 8))), pool(limits={"cpu": "64"}))["cpu"]
    assert told.warning == "But they have room for 4 of its 8 machines at most."


def test_any_pod_template_can_be_judged() -> None:
    pod = {"nodeSelector": {"disk": "fast"}}
    told = landing("mine", pod, 1, [source(taints=[])])
    assert "has no label disk, fast is asked" in told.problem
    assert landing("mine", pod, 1, [source(taints=[], labels={"disk": "fast"})]).ok


# Creating


PLACE = Place("ml", ROLE, {"us-east-1a": ("subnet-a",), "us-east-1b": ("subnet-b",)}, "sg-1")


def test_a_node_group_is_asked_for_on_which_the_group_can_land() -> None:
    group = gpu(("g6.12xlarge", "g6.24xlarge"), nodes=(0, 8), pods_per_node=4, market="spot")
    spec = on_eks(group)
    asked = eks.node_group_request(spec, "gpu", PLACE).node_group
    assert asked["scalingConfig"] == {"minSize": 0, "maxSize": 2, "desiredSize": 0}
    assert (asked["capacityType"], asked["amiType"]) == ("SPOT", "AL2023_x86_64_NVIDIA")
    assert asked["subnets"] == ["subnet-a", "subnet-b"]
    made = source(**asked)
    assert landed(spec, made)["gpu"].ok


def test_efa_gets_every_card_in_a_placement_group_of_one_zone() -> None:
    spec = on_eks(gpu("p5.48xlarge", nodes=2, efa=True, zones=["us-east-1a"]))
    asked = eks.node_group_request(spec, "gpu", PLACE)
    assert asked.placement_group == {"GroupName": "train-gpu", "Strategy": "cluster"}
    assert asked.launch_template is not None
    data = asked.launch_template["LaunchTemplateData"]
    cards = data["NetworkInterfaces"]
    assert [card["NetworkCardIndex"] for card in cards] == list(range(32))
    assert [card["DeviceIndex"] for card in cards] == [0] + [1] * 31
    assert {card["InterfaceType"] for card in cards[1:]} == {"efa-only"}
    assert all(card["Groups"] == ["sg-1"] for card in cards)
    assert data["Placement"] == {"GroupName": "train-gpu"}
    assert "strategy: RAID0" in base64.b64decode(data["UserData"]).decode()
    assert asked.node_group["subnets"] == ["subnet-a"]
    assert "diskSize" not in asked.node_group


def test_a_capacity_block_brings_its_zone_and_no_placement_group() -> None:
    reserved = {"market": "reserved", "capacity_reservation": "cr-0123456789abcdef0"}
    spec = on_eks(gpu("p5.48xlarge", nodes=2, efa=True, **reserved))
    block = Reservation("cr-0123456789abcdef0", "us-east-1b", is_block=True)
    asked = eks.node_group_request(spec, "gpu", PLACE, block)
    assert asked.placement_group is None
    assert asked.launch_template is not None
    data = asked.launch_template["LaunchTemplateData"]
    assert data["InstanceMarketOptions"] == {"MarketType": "capacity-block"}
    assert data["InstanceType"] == "p5.48xlarge"
    assert asked.node_group["capacityType"] == "CAPACITY_BLOCK"
    assert asked.node_group["subnets"] == ["subnet-b"]
    assert "instanceTypes" not in asked.node_group


def test_a_plain_group_needs_no_launch_template() -> None:
    asked = eks.node_group_request(on_eks(cpu("m7g.4xlarge")), "cpu", PLACE)
    assert asked.launch_template is None
    assert asked.node_group["amiType"] == "AL2023_ARM_64_STANDARD"
    assert "taints" not in asked.node_group


def test_every_request_is_one_that_botocore_accepts() -> None:
    reserved = {"market": "reserved", "capacity_reservation": "cr-0123456789abcdef0"}
    spec = on_eks(
        gpu("p5.48xlarge", name="efa", efa=True, zones=["us-east-1a"]),
        gpu("p5.48xlarge", name="block", efa=True, **reserved),
        neuron("trn1.32xlarge", name="trn", image="neuron:1"),
        head={"instance": "m7i.4xlarge"},
    )
    block = Reservation("cr-0123456789abcdef0", "us-east-1a", is_block=True)
    session = botocore.session.get_session()
    for name in ("efa", "block", "trn", "headgroup"):
        asked = eks.node_group_request(spec, name, PLACE, block if name == "block" else None)
        for service, operation, fields in (
            ("eks", "CreateNodegroup", {**asked.node_group, "clientRequestToken": "x"}),
            ("ec2", "CreateLaunchTemplate", asked.launch_template),
            ("ec2", "CreatePlacementGroup", asked.placement_group),
        ):
            if fields is not None:
                shape = session.get_service_model(service).operation_model(operation).input_shape
                report = botocore.validate.ParamValidator().validate(fields, shape)
                assert not report.has_errors(), report.generate_report()


@pytest.mark.parametrize(
    ("group", "told"),
    [
        (gpu("p5.48xlarge", efa=True), "EFA wants a node group of one zone"),
        (gpu("g6.12xlarge", zones=["us-east-1f"]), "no subnet in us-east-1f"),
        (cpu(cpus=2, name="gpu"), "names no instance type"),
    ],
)
def test_a_node_group_that_cannot_be_is_refused(group: Any, told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        eks.node_group_request(on_eks(group), "gpu", PLACE)


def test_a_node_group_is_made_and_found_again(subnets: dict[str, str]) -> None:
    spec = on_eks(gpu("g6.12xlarge", nodes=2, scratch="100Gi"), head={"instance": "m7i.4xlarge"})
    where = eks.place_of("ml", REGION, node_role=ROLE)
    assert where.subnets == {zone: (subnet,) for zone, subnet in subnets.items()}
    for group in ("headgroup", "gpu"):
        arn = eks.create_node_group(eks.node_group_request(spec, group, where), REGION)
        assert f"nodegroup/ml/train-{group}" in arn
    assert all(one.ok for one in eks.landings(spec, eks.node_groups("ml", REGION)))
    assert eks.place_of("ml", REGION).node_role == ROLE


def test_what_was_made_for_a_refused_node_group_is_taken_back(subnets: dict[str, str]) -> None:
    spec = on_eks(gpu("g6.12xlarge"))  # without EFA: moto has no placement groups
    asked = eks.node_group_request(spec, "gpu", eks.place_of("ml", REGION, node_role=ROLE))
    assert asked.launch_template is not None
    add_node_group("train-gpu", [subnets["us-east-1a"]])
    with pytest.raises(ClusterInUse, match="train-gpu"):
        eks.create_node_group(asked, REGION)
    ec2 = boto3.client("ec2", region_name=REGION)
    assert ec2.describe_launch_templates()["LaunchTemplates"] == []


def test_a_role_that_cannot_be_guessed_is_asked_for(subnets: dict[str, str]) -> None:
    with pytest.raises(InvalidSpec, match="node_role"):
        eks.place_of("ml", REGION)


# Quotas and identity


@pytest.fixture
def fake(aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAws]:
    server = FakeAws()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", server.url)
    yield server
    server.close()


def test_quotas_stand_beside_what_a_plan_needs(fake: FakeAws) -> None:
    needed = plan(on_eks(gpu("g6.12xlarge", nodes=(2, 8)), head={"instance": "m7i.4xlarge"})).quotas
    fake.quotas = {"L-DB2E81BA": 192.0}
    fake.default_quotas = {"L-1216C47A": 5.0}
    rows = {row.code: row for row in eks.quota_rows(needed, REGION)}
    gpus, standard = rows["L-DB2E81BA"], rows["L-1216C47A"]
    assert (gpus.at_start, gpus.at_most, gpus.applied) == (96, 384, 192.0)
    assert gpus.problem is None
    assert "may grow to 384 vCPUs, the account has 192" in gpus.warning
    assert standard.problem is not None
    assert "16 vCPUs at the start, the account has 5" in str(standard.problem)


def test_a_service_account_without_an_association_is_told(
    fake: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", fake.url)
    (problem,) = eks.identity_problems(on_eks(cpu("m7i.4xlarge")), "ml")
    assert "no Pod Identity association on ml gives default/train a role" in problem.message
    assert "create-pod-identity-association" in problem.remedy


def test_an_association_whose_role_trusts_pods_is_fine(
    fake: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EKS", fake.url)
    iam = boto3.client("iam", region_name=REGION)
    for name, policy in (("good", POD_IDENTITY_TRUST), ("bad", {"Statement": []})):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
    fake.associations["default", "train"] = "arn:aws:iam::123456789012:role/good"
    assert eks.identity_problems(on_eks(cpu("m7i.4xlarge")), "ml") == []
    fake.associations["default", "train"] = "arn:aws:iam::123456789012:role/bad"
    (problem,) = eks.identity_problems(on_eks(cpu("m7i.4xlarge")), "ml")
    assert "role/bad does not trust pods.eks.amazonaws.com" in problem.message


def test_a_role_by_irsa_must_trust_the_clusters_provider(subnets: dict[str, str]) -> None:
    described = boto3.client("eks", region_name=REGION).describe_cluster(name="ml")
    issuer = described["cluster"]["identity"]["oidc"]["issuer"]
    provider = issuer.removeprefix("https://")
    policy = irsa_policy(provider, "system:serviceaccount:default:train")
    iam = boto3.client("iam", region_name=REGION)
    role = iam.create_role(RoleName="irsa", AssumeRolePolicyDocument=json.dumps(policy))["Role"]
    identity = {"role_arn": role["Arn"]}
    assert eks.identity_problems(on_eks(cpu("m7i.4xlarge"), identity=identity), "ml") == []
    other = on_eks(cpu("m7i.4xlarge"), identity=identity, namespace="team")
    (problem,) = eks.identity_problems(other, "ml")
    assert "excludes system:serviceaccount:team:train" in problem.message


def irsa_policy(provider: str, subject: str) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::123456789012:oidc-provider/{provider}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": {f"{provider}:sub": subject}},
    }
    return {"Statement": statement}


def test_a_wildcard_in_a_trust_policy_is_understood() -> None:
    policy = irsa_policy("oidc/1", "system:serviceaccount:team-*:*")
    assert irsa_gap(policy, "https://oidc/1", "team-a", "train") == ""
    assert "excludes" in irsa_gap(policy, "https://oidc/1", "other", "train")
    assert "does not trust" in irsa_gap(policy, "https://oidc/2", "team-a", "train")


def test_a_trust_policy_may_be_narrowed_by_session_tags() -> None:
    narrow = {"StringEquals": {"aws:RequestTag/kubernetes-namespace": ["a", "b"]}}
    (statement,) = POD_IDENTITY_TRUST["Statement"]
    policy = {"Statement": [{**statement, "Condition": narrow}]}  # type: ignore[dict-item]
    assert pod_identity_gap(policy, "a", "train") == ""
    assert "excludes c/train" in pod_identity_gap(policy, "c", "train")
    untagged = {"Statement": [{**statement, "Action": "sts:AssumeRole"}]}  # type: ignore[dict-item]
    assert "does not allow sts:TagSession" in pod_identity_gap(untagged, "a", "train")


# All of it, and at the shell

SPEC = """
name: train
backend: eks
head: {instance: m7i.4xlarge}
groups: [{name: gpu, instance: g6.12xlarge, nodes: 2}]
identity: {pod_identity: false}
"""


def at_the_shell(*arguments: str) -> Any:
    from eksml.cli.main import app

    return CliRunner().invoke(app, arguments, prog_name="eksml")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "train.yaml").write_text(SPEC)
    return str(tmp_path / "train.yaml")


def test_a_plan_can_ask_the_account(fake: FakeAws, subnets: dict[str, str], file: str) -> None:
    fake.quotas = {"L-DB2E81BA": 192.0, "L-1216C47A": 64.0}
    done = at_the_shell("plan", file, "--cluster-name", "ml")
    assert done.exit_code == 1
    assert "gpu: there is no node group and no NodePool." in done.stdout
    for group in ("headgroup", "gpu"):
        asked = ("nodegroup", file, group, "--cluster-name", "ml", "--node-role", ROLE)
        assert "nodegroupName" in json.loads(at_the_shell(*asked).stdout)["node_group"]
        assert "aws eks wait nodegroup-active" in at_the_shell(*asked, "--create").stderr
    done = at_the_shell("plan", file, "--cluster-name", "ml")
    assert done.exit_code == 0, done.stdout
    assert "gpu: lands on node group train-gpu." in done.stdout
    assert "96 to 96 vCPUs needed, the account has 192." in done.stdout
    told = json.loads(at_the_shell("plan", file, "--cluster-name", "ml", "--json").stdout)
    assert (told["account"]["ok"], told["account"]["problems"]) == (True, [])


def test_pools_count_only_if_the_kubeconfig_leads_to_the_cluster(
    subnets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with KubeServer(kinds.KARPENTER) as kube:
        monkeypatch.setenv("KUBECONFIG", str(kube.kubeconfig(tmp_path)))
        spec = on_eks(gpu("g6.12xlarge"), karpenter=KARPENTER)
        for thing in objects(spec):
            if thing["kind"] == "NodePool":
                kube.store.put(thing)
        assert eks.node_pools("ml", REGION) == []
        monkeypatch.setattr("eksml.backends.kube.client.KubeClient.host", endpoint_of("ml"))
        assert len(eks.node_pools("ml", REGION)) == 2


def endpoint_of(cluster: str) -> str:
    described = boto3.client("eks", region_name=REGION).describe_cluster(name=cluster)
    return str(described["cluster"]["endpoint"])


# Errors


def test_every_error_of_these_services_becomes_one_of_ours() -> None:
    session = botocore.session.get_session()
    codes = {
        shape.name
        for service in ("eks", "service-quotas", "iam", "ec2")
        for shape in session.get_service_model(service).error_shapes
    }
    for code in codes | {
        "UnauthorizedOperation",
        "RequestLimitExceeded",
        "InvalidSubnetID.NotFound",
    }:
        with pytest.raises(EksmlError, match=r"told what|asked for"), translated("asked for"):
            raise ClientError({"Error": {"Code": code, "Message": "told what."}}, "Operation")


def test_an_answer_that_is_not_aws_is_told(aws: None) -> None:
    # moto answers what it cannot do with a page of HTML, as a proxy would
    spec = on_eks(gpu("p5.48xlarge", efa=True, zones=["us-east-1a"]))
    with pytest.raises(ClusterError, match="Something that is not AWS answers there"):
        eks.create_node_group(eks.node_group_request(spec, "gpu", PLACE), REGION)


def test_no_answer_and_no_credentials_are_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("eksml.backends.eks.aws._ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ClusterError, match="Is the network reachable"):
        eks.node_groups("ml", REGION)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ClusterError, match="aws configure sso"):
        eks.node_groups("ml", REGION)
