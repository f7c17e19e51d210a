"""Who needs which AWS permissions, so that a cluster starts and its mounts work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from eksml.cluster.mounts import S3Mount
from eksml.cluster.spec import Cluster

YOU = "you"
PODS = "the pods' role"
NODES = "the nodes' role"
KARPENTER = "Karpenter's role"
S3_DRIVER = "the role of Mountpoint's driver"

_WRITE = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")


@dataclass(frozen=True)
class Permission:
    """What one role must be allowed, and why."""

    who: str
    actions: tuple[str, ...]
    """IAM actions, or the name of an AWS managed policy."""
    resource: str
    """ARN, or ``*``."""
    why: str


def permissions(spec: Cluster) -> tuple[Permission, ...]:
    """The permissions that ``spec`` makes necessary; what the user's own code needs comes on top.

    File systems of FSx and other claims need none: the claim is there already.
    """
    return (*_yours(spec), *_nodes(spec), *_pods(spec), *_buckets(spec), *_reservations(spec))


def _yours(spec: Cluster) -> Iterator[Permission]:
    yield Permission(
        YOU,
        ("eks:DescribeCluster",),
        "*",
        "and an access entry with leave to apply the objects below",
    )


def _nodes(spec: Cluster) -> Iterator[Permission]:
    managed = ("AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly")
    yield Permission(NODES, managed, "*", "to join, to pull images, to hand out pod identities")
    if spec.karpenter:
        role = f"arn:{_partition(spec)}:iam::*:role/{spec.karpenter.node_role}"
        yield Permission(KARPENTER, ("iam:PassRole",), role, "to start nodes with that role")


def _pods(spec: Cluster) -> Iterator[Permission]:
    identity = spec.identity
    account = f"{spec.namespace}/{identity.service_account or spec.name}"
    if identity.role_arn:
        action, why = "sts:AssumeRoleWithWebIdentity", "IRSA: the role's trust policy names"
        yield Permission(PODS, (action,), identity.role_arn, f"{why} {account}")
    elif identity.pod_identity:
        actions = ("eks:CreatePodIdentityAssociation", "iam:PassRole", "iam:GetRole")
        yield Permission(YOU, actions, "*", f"to associate a role with {account}")
        trust = ("sts:AssumeRole", "sts:TagSession")
        yield Permission(PODS, trust, "*", "its trust policy names pods.eks.amazonaws.com")
    else:
        return
    storage = "the bucket of your runs' storage"
    yield Permission(PODS, ("s3:ListBucket", "s3:GetObject", *_WRITE), storage, "checkpoints")


def _buckets(spec: Cluster) -> Iterator[Permission]:
    mounts = [
        *spec.mounts,
        *spec.head.mounts,
        *(mount for group in spec.groups for mount in group.mounts),
    ]
    seen: dict[tuple[str, str], bool] = {}
    for mount in mounts:
        if isinstance(mount, S3Mount):
            where = (mount.bucket, mount.prefix or "")
            seen[where] = seen.get(where, True) and mount.read_only
    for (bucket, prefix), read_only in seen.items():
        arn = f"arn:{_partition(spec)}:s3:::{bucket}"
        yield Permission(S3_DRIVER, ("s3:ListBucket",), arn, f"to mount {bucket}")
        actions = ("s3:GetObject",) if read_only else ("s3:GetObject", *_WRITE)
        why = f"to read {bucket}" if read_only else f"to read and write {bucket}"
        yield Permission(S3_DRIVER, actions, f"{arn}/{prefix}*", why)


def _reservations(spec: Cluster) -> Iterator[Permission]:
    for group in spec.groups:
        if group.capacity_reservation:
            arn = (
                f"arn:{_partition(spec)}:ec2:*:*:capacity-reservation/{group.capacity_reservation}"
            )
            who = KARPENTER if spec.karpenter else YOU
            actions = ("ec2:RunInstances", "ec2:DescribeCapacityReservations")
            yield Permission(who, actions, arn, f"to start {group.name} in its reservation")


def _partition(spec: Cluster) -> str:
    if spec.region.startswith("cn-"):
        return "aws-cn"
    return "aws-us-gov" if spec.region.startswith("us-gov-") else "aws"
