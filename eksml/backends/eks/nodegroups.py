"""The managed node groups of an EKS cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eksml.backends.eks.aws import client, translated
from eksml.backends.eks.source import ARCH, NodeSource, Taint, Values
from eksml.cluster.placement import EKS_CAPACITY, EKS_NODEGROUP, ZONE

_EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "NO_EXECUTE": "NoExecute",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
}
_WELL = ("ACTIVE", "CREATING", "UPDATING")


def node_groups(cluster: str, region: str | None = None) -> list[NodeSource]:
    """The node groups of the EKS cluster named ``cluster``, by name.

    Raises:
        ClusterNotUp: there is no such cluster.
        ClusterError: AWS refuses, or does not answer.
    """
    described = describe(cluster, region)
    subnets = sorted({subnet for group in described for subnet in group.get("subnets") or ()})
    zones = zones_of(subnets, region) if subnets else {}
    return [from_node_group(group, zones) for group in described]


def describe(cluster: str, region: str | None = None) -> list[dict[str, Any]]:
    """The node groups as ``DescribeNodegroup`` gives them; those that a launch template hides
    (instance types) filled in.

    Raises:
        ClusterNotUp: there is no such cluster.
        ClusterError: AWS refuses, or does not answer.
    """
    eks = client("eks", region)
    with translated(f"the node groups of {cluster}"):
        pages = eks.get_paginator("list_nodegroups").paginate(clusterName=cluster)
        names = sorted(name for page in pages for name in page["nodegroups"])
        groups: list[dict[str, Any]] = [
            eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
            for name in names
        ]
    return [with_instance_types(group, region) for group in groups]


def zones_of(subnets: list[str], region: str | None = None) -> dict[str, str]:
    """The availability zone of each subnet.

    Raises:
        ClusterError: AWS refuses, or does not answer.
    """
    ec2 = client("ec2", region)
    with translated("the zones of subnets"):
        found = ec2.describe_subnets(SubnetIds=subnets)["Subnets"]
    return {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}


def from_node_group(group: Mapping[str, Any], zones: Mapping[str, str]) -> NodeSource:
    """A node group as ``DescribeNodegroup`` gives it. Pure."""
    name = str(group["nodegroupName"])
    labels: dict[str, Values] = {
        key: frozenset((value,)) for key, value in (group.get("labels") or {}).items()
    }
    labels[EKS_NODEGROUP] = frozenset((name,))
    labels[EKS_CAPACITY] = frozenset((str(group.get("capacityType") or "ON_DEMAND"),))
    lies = frozenset(zones[one] for one in group.get("subnets") or () if one in zones)
    labels[ZONE] = lies or None
    labels[ARCH] = frozenset(("arm64" if "ARM" in str(group.get("amiType")) else "amd64",))
    return NodeSource(
        name,
        "node group",
        tuple(group.get("instanceTypes") or ()) or None,
        labels,
        tuple(
            Taint(one["key"], one.get("value") or "", _EFFECTS[one["effect"]])
            for one in group.get("taints") or ()
        ),
        most=(group.get("scalingConfig") or {}).get("maxSize"),
        ill=_ill(group),
    )


def _ill(group: Mapping[str, Any]) -> str:
    issues = (group.get("health") or {}).get("issues") or ()
    told = [f"{issue.get('code')}: {str(issue.get('message')).rstrip('.')}" for issue in issues]
    status = str(group.get("status") or "ACTIVE")
    return "; ".join(told) or ("" if status in _WELL else f"its status is {status}")


def with_instance_types(group: dict[str, Any], region: str | None) -> dict[str, Any]:
    """The group with the instance type that its launch template names in its stead, if so.

    Raises:
        ClusterError: AWS refuses, or does not answer.
    """
    template = group.get("launchTemplate")
    if group.get("instanceTypes") or not template:
        return group
    ec2 = client("ec2", region)
    with translated(f"the launch template of node group {group['nodegroupName']}"):
        versions = ec2.describe_launch_template_versions(
            LaunchTemplateId=template["id"], Versions=[str(template.get("version") or "$Default")]
        )["LaunchTemplateVersions"]
    named = [one["LaunchTemplateData"].get("InstanceType") for one in versions]
    return {**group, "instanceTypes": [name for name in named if name]}
