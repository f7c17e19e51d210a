"""A managed node group for a group that has no nodes: the request as data, then AWS."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eksml.backends.eks.aws import client, translated
from eksml.backends.eks.nodegroups import describe
from eksml.cluster.catalogue import Instance, instance
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.placement import Market
from eksml.cluster.render.scheduling import accelerator_taints
from eksml.errors import EksmlError, InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster import Cluster

_DISK_GIB = 200
"""EKS' own 20 GiB do not hold an image with CUDA, let alone two."""
_BOUNDARY = "//"
_LOCAL_DISKS = f"""\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="{_BOUNDARY}"

--{_BOUNDARY}
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    localStorage:
      strategy: RAID0
--{_BOUNDARY}--
"""
"""One RAID 0 of the local disks holds images, logs and every emptyDir, scratch included."""


@dataclass(frozen=True)
class Place:
    """What a node group has to know about the EKS cluster that it joins."""

    cluster: str
    """The EKS cluster's name."""
    node_role: str
    """ARN of the nodes' role."""
    subnets: Mapping[str, tuple[str, ...]]
    """Subnets by availability zone."""
    security_group: str
    """The cluster's own; with EFA it must let all its own traffic in and out."""


@dataclass(frozen=True)
class Reservation:
    """A capacity reservation, as far as it matters for a node group."""

    id: str
    zone: str
    is_block: bool
    """A capacity block for ML, which has a way of its own to be used."""


@dataclass(frozen=True)
class NodeGroupRequest:
    """What is asked of AWS, in this order: the arguments of the API's calls."""

    placement_group: Mapping[str, Any] | None
    """Of ``ec2.create_placement_group``."""
    launch_template: Mapping[str, Any] | None
    """Of ``ec2.create_launch_template``."""
    node_group: Mapping[str, Any]
    """Of ``eks.create_nodegroup``; the launch template's id comes in when it is known."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON; what is not asked is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class _Wanted:
    """What the head and a worker group have in common as far as machines go."""

    types: tuple[Instance, ...]
    machines: tuple[int, int, int]
    """Least, at the start, most."""
    market: Market = "on-demand"
    zones: tuple[str, ...] = ()
    efa: bool = False

    @property
    def efa_cards(self) -> int:
        """EFA interfaces that every type has; 0 without EFA."""
        return min(one.efa for one in self.types) if self.efa else 0


def node_group_request(
    spec: Cluster, group: str, place: Place, reservation: Reservation | None = None
) -> NodeGroupRequest:
    """The node group on which ``group`` of ``spec`` can land. Pure.

    ``group`` may be ``headgroup``. EFA: every card of the instance, in a placement group, in one
    zone. A reservation brings its zone along, and no placement group: it may lack one.

    Raises:
        InvalidSpec: no instance type is said, EFA without a zone, or no subnet in the zones.
    """
    wanted = _wanted(spec, group)
    zones = (reservation.zone,) if reservation else wanted.zones
    _check(group, wanted, zones, place)
    name = f"{spec.name}-{group}"
    subnets = [
        subnet for zone in sorted(zones or place.subnets) for subnet in place.subnets.get(zone, ())
    ]
    placed = bool(wanted.efa and reservation is None)
    template = _launch_template(name, wanted, place, reservation, placed=placed)
    made: dict[str, Any] = {
        "clusterName": place.cluster,
        "nodegroupName": name,
        "nodeRole": place.node_role,
        "subnets": subnets,
        "instanceTypes": [one.name for one in wanted.types],
        "amiType": _ami_type(wanted),
        "capacityType": _capacity_type(wanted, reservation),
        "scalingConfig": _scaling(wanted),
        "tags": _tags(spec, group),
    }
    if taints := _taints(wanted):
        made["taints"] = taints
    if template is None:
        made["diskSize"] = _DISK_GIB
    if reservation and reservation.is_block:
        del made["instanceTypes"]  # a block wants the type in the launch template
    return NodeGroupRequest(
        {"GroupName": name, "Strategy": "cluster"} if placed else None,
        template,
        made,
    )


def place_of(cluster: str, region: str | None = None, *, node_role: str | None = None) -> Place:
    """What a node group has to know about an EKS cluster, read from AWS.

    ``node_role`` None: that of the node groups which are there, if they agree. Private subnets are
    preferred: a machine with several EFA cards gets no public address.

    Raises:
        ClusterNotUp: there is no such cluster.
        InvalidSpec: the nodes' role cannot be guessed.
        ClusterError: AWS refuses, or does not answer.
    """
    eks, ec2 = client("eks", region), client("ec2", region)
    with translated(f"EKS cluster {cluster}"):
        config = eks.describe_cluster(name=cluster)["cluster"]["resourcesVpcConfig"]
    with translated(f"the subnets of {cluster}"):
        found = ec2.describe_subnets(SubnetIds=config["subnetIds"])["Subnets"]
    private = [one for one in found if not one.get("MapPublicIpOnLaunch")] or found
    by_zone: dict[str, tuple[str, ...]] = {}
    for subnet in sorted(private, key=lambda one: str(one["SubnetId"])):
        zone = subnet["AvailabilityZone"]
        by_zone[zone] = (*by_zone.get(zone, ()), subnet["SubnetId"])
    return Place(
        cluster,
        node_role or _role_of_others(cluster, region),
        by_zone,
        str(config.get("clusterSecurityGroupId") or ""),
    )


def reservation_of(spec: Cluster, group: str) -> Reservation | None:
    """The capacity reservation that the group names, read from AWS; None if it names none.

    Raises:
        ClusterNotUp: there is no such reservation.
        ClusterError: AWS refuses, or does not answer.
    """
    if group == HEAD_GROUP or (name := spec.group(group).capacity_reservation) is None:
        return None
    ec2 = client("ec2", spec.region)
    with translated(f"capacity reservation {name}"):
        found = ec2.describe_capacity_reservations(CapacityReservationIds=[name])
    one = found["CapacityReservations"][0]
    is_block = one.get("ReservationType") == "capacity-block"
    return Reservation(name, one["AvailabilityZone"], is_block)


def create_node_group(asked: NodeGroupRequest, region: str | None = None) -> str:
    """Ask for it; returns the node group's ARN while its machines are still to come.

    What was made for a node group that is refused is taken back.

    Raises:
        ClusterInUse: a node group, launch template or placement group of that name exists.
        InvalidSpec: AWS does not take the request.
        ClusterError: AWS refuses, or does not answer.
    """
    eks, ec2 = client("eks", region), client("ec2", region)
    made = dict(asked.node_group)
    name = made["nodegroupName"]
    undo: list[tuple[str, Any]] = []
    try:
        if asked.placement_group:
            with translated(f"placement group {name}"):
                ec2.create_placement_group(**asked.placement_group)
            undo.append(("placement group", lambda: ec2.delete_placement_group(GroupName=name)))
        if asked.launch_template:
            with translated(f"launch template {name}"):
                template = ec2.create_launch_template(**asked.launch_template)["LaunchTemplate"]
            key = template["LaunchTemplateId"]
            undo.append(
                ("launch template", lambda: ec2.delete_launch_template(LaunchTemplateId=key))
            )
            made["launchTemplate"] = {"id": key, "version": "1"}
        with translated(f"node group {name}"):
            return str(eks.create_nodegroup(**made)["nodegroup"]["nodegroupArn"])
    except EksmlError as failure:
        for what, take_back in reversed(undo):
            try:
                with translated(f"{what} {name}"):
                    take_back()
            except EksmlError as error:
                failure.add_note(f"{what} {name} was left behind: {error}")
        raise


def _wanted(spec: Cluster, group: str) -> _Wanted:
    if group == HEAD_GROUP:
        return _Wanted(tuple(map(instance, spec.head.instances)), (1, 1, 1))
    found = spec.group(group)
    per_machine = found.pods_per_node
    numbers = (found.nodes[0], found.initial_nodes, found.nodes[1])
    least, start, most = (math.ceil(number / per_machine) for number in numbers)
    return _Wanted(
        tuple(map(instance, found.instances)),
        (least, start, most),
        found.market,
        found.zones,
        found.efa,
    )


def _check(group: str, wanted: _Wanted, zones: tuple[str, ...], place: Place) -> None:
    problems = []
    if not wanted.types:
        told = "names no instance type, and a node group must have one."
        problems.append(Problem(f"{group}.instance", told, "Say instance=."))
    known = ", ".join(sorted(place.subnets))
    if wanted.efa and len(zones) != 1:
        told = "EFA wants a node group of one zone."
        problems.append(Problem(f"{group}.zones", told, f"Say one of {known}."))
    problems += [
        Problem(f"{group}.zones", f"{place.cluster} has no subnet in {zone}.", f"It has: {known}.")
        for zone in zones
        if zone not in place.subnets
    ]
    if len({one.arch for one in wanted.types}) > 1:
        told = "has types of two architectures, and a node group has one."
        problems.append(Problem(f"{group}.instance", told, "Make two groups of it."))
    if problems:
        raise InvalidSpec(problems, subject="the node group")


def _launch_template(
    name: str,
    wanted: _Wanted,
    place: Place,
    reservation: Reservation | None,
    *,
    placed: bool,
) -> dict[str, Any] | None:
    """None where the node group's own fields say it all."""
    disks = all(one.nvme_bytes for one in wanted.types)
    if not (wanted.efa or reservation or disks):
        return None
    volume = {"VolumeSize": _DISK_GIB, "VolumeType": "gp3", "Encrypted": True}
    data: dict[str, Any] = {"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": volume}]}
    if disks:
        data["UserData"] = base64.b64encode(_LOCAL_DISKS.encode()).decode()
    if wanted.efa:
        data["NetworkInterfaces"] = _cards(wanted.efa_cards, place.security_group)
    if placed:
        data["Placement"] = {"GroupName": name}
    if reservation:
        target = {"CapacityReservationId": reservation.id}
        data["CapacityReservationSpecification"] = {"CapacityReservationTarget": target}
        if reservation.is_block:
            data["InstanceMarketOptions"] = {"MarketType": "capacity-block"}
            data["InstanceType"] = wanted.types[0].name
    return {"LaunchTemplateName": name, "LaunchTemplateData": data}


def _cards(count: int, security_group: str) -> list[dict[str, Any]]:
    """The first card has the machine's address; the others carry EFA only, and take none."""
    return [
        {
            "NetworkCardIndex": card,
            "DeviceIndex": 0 if card == 0 else 1,
            "InterfaceType": "efa" if card == 0 else "efa-only",
            "Groups": [security_group],
        }
        for card in range(count)
    ]


def _ami_type(wanted: _Wanted) -> str:
    arch = "ARM_64" if wanted.types[0].arch == "arm64" else "x86_64"
    if any(one.gpu for one in wanted.types):
        return f"AL2023_{arch}_NVIDIA"
    if any(one.neuron for one in wanted.types):
        return f"AL2023_{arch}_NEURON"
    return f"AL2023_{arch}_STANDARD"


def _capacity_type(wanted: _Wanted, reservation: Reservation | None) -> str:
    if reservation and reservation.is_block:
        return "CAPACITY_BLOCK"
    return "SPOT" if wanted.market == "spot" else "ON_DEMAND"


def _scaling(wanted: _Wanted) -> dict[str, int]:
    least, start, most = wanted.machines
    return {"minSize": least, "maxSize": max(1, most), "desiredSize": start}


def _taints(wanted: _Wanted) -> list[dict[str, str]]:
    return [{"key": key, "effect": "NO_SCHEDULE"} for key in accelerator_taints(wanted.types)]


def _tags(spec: Cluster, group: str) -> dict[str, str]:
    return {"ray.io/cluster": spec.name, "ray.io/group": group}


def _role_of_others(cluster: str, region: str | None) -> str:
    roles = {str(group["nodeRole"]) for group in describe(cluster, region)}
    if len(roles) == 1:
        return roles.pop()
    told = f"cannot be guessed: the node groups of {cluster} have {len(roles) or 'no'} roles."
    problem = Problem("node_role", told, "Say the ARN of the nodes' role.")
    raise InvalidSpec([problem], subject="the node group")
