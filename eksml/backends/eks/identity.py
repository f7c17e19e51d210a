"""Do the pods of a cluster get the role that they are meant to have?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from eksml.backends.eks.aws import client, translated
from eksml.backends.eks.trust import irsa_gap, pod_identity_gap
from eksml.cluster.render.names import service_account
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster import Cluster


def identity_problems(spec: Cluster, cluster: str) -> list[Problem]:
    """What keeps the pods of ``spec`` from having a role on the EKS cluster named ``cluster``.

    Empty if they get one, or want none. Whether the role allows what the code does is not asked.

    Raises:
        ClusterNotUp: there is no such EKS cluster, or no such role.
        ClusterError: AWS refuses, or does not answer.
    """
    identity, account = spec.identity, service_account(spec)
    if identity.role_arn:
        issuer = _issuer(cluster, spec.region)
        gap = irsa_gap(_trust(identity.role_arn, spec.region), issuer, spec.namespace, account)
        return _problem(identity.role_arn, gap, "IRSA")
    if not identity.pod_identity:
        return []
    role = associated_role(cluster, spec.namespace, account, spec.region)
    if role is None:
        told = f"no Pod Identity association on {cluster} gives {spec.namespace}/{account} a role."
        remedy = (
            f"`aws eks create-pod-identity-association --cluster-name {cluster} --namespace "
            f"{spec.namespace} --service-account {account} --role-arn …`, or say "
            "identity.pod_identity: false."
        )
        return [Problem("identity", told, remedy)]
    gap = pod_identity_gap(_trust(role, spec.region), spec.namespace, account)
    return _problem(role, gap, "Pod Identity")


def associated_role(
    cluster: str, namespace: str, account: str, region: str | None = None
) -> str | None:
    """The role that an EKS Pod Identity association gives a service account; None: none does.

    Raises:
        ClusterNotUp: there is no such EKS cluster.
        ClusterError: AWS refuses, or does not answer.
    """
    eks = client("eks", region)
    with translated(f"the Pod Identity associations of {cluster}"):
        found = eks.list_pod_identity_associations(
            clusterName=cluster, namespace=namespace, serviceAccount=account
        )["associations"]
        if not found:
            return None
        association = eks.describe_pod_identity_association(
            clusterName=cluster, associationId=found[0]["associationId"]
        )["association"]
    return str(association["roleArn"])


def _problem(role: str, gap: str, way: str) -> list[Problem]:
    if not gap:
        return []
    told = f"the trust policy of {role} {gap}."
    return [Problem("identity", told, f"Change it as the EKS user guide says for {way}.")]


def _issuer(cluster: str, region: str) -> str:
    eks = client("eks", region)
    with translated(f"EKS cluster {cluster}"):
        described = eks.describe_cluster(name=cluster)["cluster"]
    return str(described["identity"]["oidc"]["issuer"])


def _trust(role_arn: str, region: str) -> Mapping[str, Any]:
    name = role_arn.rpartition("/")[2]
    iam = client("iam", region)
    with translated(f"role {name}"):
        document = iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"]
    # botocore decodes it; endpoints that stand in for AWS may hand it out as they got it
    read: Mapping[str, Any] = (
        json.loads(unquote(document)) if isinstance(document, str) else document
    )
    return read
