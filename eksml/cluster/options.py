"""What holds for a whole cluster: scaling, the head's state, identity, security, quota, queue."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from eksml.cluster.names import (
    AtLeastOne,
    FilledLabel,
    LabelKey,
    LabelValue,
    Namespace,
    ObjectName,
)
from eksml.cluster.problems import Refused, Spec
from eksml.cluster.quantity import Bytes
from eksml.cluster.syntax import is_subdomain
from eksml.cluster.vocabulary import GATES
from eksml.errors import Problem

_ROLE_ARN = re.compile(r"arn:aws[-a-z]*:iam::\d{12}:role/[\w+=,.@/-]+")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?")
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?")
_REDIS = re.compile(r"(rediss?://)?[A-Za-z0-9._-]+:\d{1,5}")
_DEFAULT_STATE_SIZE = 10 * 1024**3


def _text(value: Any) -> Any:
    # YAML reads ``32`` as a number; Kubernetes takes quantities as text
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _quantity(value: str) -> str:
    if not _QUANTITY.fullmatch(value):
        raise ValueError("not a Kubernetes quantity; write such as 32, 500m or 64Gi")
    return value


def _role_arn(value: str) -> str:
    if not _ROLE_ARN.fullmatch(value):
        raise ValueError("not the ARN of a role: arn:aws:iam::123456789012:role/name")
    return value


def _not_default(name: str) -> str:
    if name == "default":
        raise ValueError("would give every pod of the namespace the cluster's rights; name another")
    return name


def _version(value: str) -> str:
    if not _VERSION.fullmatch(value):
        raise ValueError("not a version such as 1.7.0")
    return value


def _redis(value: str) -> str:
    if not _REDIS.fullmatch(value):
        raise ValueError("not the address of a Redis; write host:port")
    return value


def _gates(value: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [gate for gate in value if gate not in GATES]:
        raise ValueError(f"no gate of KubeRay: {', '.join(unknown)}. They are: {', '.join(GATES)}")
    return value


Quantity = Annotated[str, BeforeValidator(_text), AfterValidator(_quantity)]
RoleArn = Annotated[str, AfterValidator(_role_arn)]
Tags = Annotated[dict[str, str], Field(min_length=1)]


class Autoscaling(Spec):
    """Ray's own autoscaler, always version 2."""

    idle_timeout_s: AtLeastOne = 300
    """Seconds without work after which a worker node goes. A group may say its own."""
    upscaling: Literal["default", "aggressive", "conservative"] = "default"
    """How fast nodes are asked for. ``conservative``: no more than are there already."""


class HeadState(Spec):
    """Where the head's tables lie, so that a new head goes on where the old one died."""

    store: Literal["redis", "rocksdb"]
    """``rocksdb``: files on a volume of the head's, behind the operator's gate
    GCSFaultToleranceEmbeddedStorage. ``redis``: a Redis that is there already."""
    redis_address: Annotated[str, AfterValidator(_redis)] | None = None
    """``host:port`` of the Redis."""
    redis_secret: ObjectName | None = None
    """The Secret with the Redis's password, in its key ``password``. None: it has none."""
    size: Bytes | None = None
    """Of the volume for rocksdb. None: 10Gi."""
    storage_class: ObjectName | None = None
    """Of the volume for rocksdb. None: the cluster's default class."""
    claim: ObjectName | None = None
    """A claim that is there already, instead of a volume made for the head."""

    @property
    def volume_bytes(self) -> int:
        """How large a volume is made for the head."""
        return self.size or _DEFAULT_STATE_SIZE

    @model_validator(mode="after")
    def _one_store(self) -> HeadState:
        redis = [field for field in ("redis_address", "redis_secret") if getattr(self, field)]
        volume = [f for f in ("size", "storage_class", "claim") if getattr(self, f) is not None]
        problems = []
        for field in redis if self.store == "rocksdb" else volume:
            told = f"has no effect with store: {self.store}."
            problems.append(Problem(field, told, "Leave it out, or choose the other store."))
        if self.store == "redis" and not self.redis_address:
            problems.append(Problem("redis_address", "is missing.", "Say host:port of the Redis."))
        if self.claim and self.store == "rocksdb":
            for field in ("size", "storage_class"):
                if getattr(self, field) is not None:
                    told = f"has no effect on the claim {self.claim!r}, which is there already."
                    problems.append(Problem(field, told, "Leave out one of the two."))
        if problems:
            raise Refused(problems)
        return self


class Identity(Spec):
    """Who the nodes are, to AWS and to Kubernetes."""

    service_account: Annotated[ObjectName, AfterValidator(_not_default)] | None = None
    """The service account of all pods. None: one named like the cluster."""
    role_arn: RoleArn | None = None
    """The role of the service account by IRSA. None: no IRSA."""
    pod_identity: bool = True
    """Whether the role comes by an EKS Pod Identity association, where ``role_arn`` is not said."""


class Client(Spec):
    """Pods besides the cluster's own that may reach Ray's ports."""

    namespace: Namespace | None = None
    """Their namespace. None: the cluster's."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """Labels that they have. Empty: all pods of the namespace."""


class Security(Spec):
    """Who may do what. Token authentication is not here, since it is always on."""

    restricted: bool = True
    """Pods obey the Pod Security Standard «restricted»."""
    network_policy: bool = True
    """Only the cluster itself and ``clients`` reach Ray's ports."""
    clients: tuple[Client, ...] = ()
    """Who else may reach Ray's ports: submitters, an ingress."""
    token_secret: ObjectName | None = None
    """A Secret that is there already, with the token in its key ``auth_token``. None: the operator
    makes one, named like the cluster."""

    @model_validator(mode="after")
    def _clients_need_a_policy(self) -> Security:
        if self.clients and not self.network_policy:
            told = "have no effect with network_policy: false."
            raise Refused([Problem("clients", told, "Leave out one of the two.")])
        return self


class Quota(Spec):
    """A ResourceQuota for the cluster's namespace."""

    limits: Annotated[dict[str, Quantity], Field(min_length=1)]
    """Such as ``{"requests.nvidia.com/gpu": "32", "limits.memory": "2Ti"}``."""

    @model_validator(mode="after")
    def _known(self) -> Quota:
        problems = [
            Problem(f"limits.{key}", "cannot be limited.", remedy)
            for key in self.limits
            if (remedy := _quota_remedy(key))
        ]
        if problems:
            raise Refused(problems)
        return self


_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_OF_OBJECTS = re.compile(
    r"count/.+|[a-z0-9.-]+\.storageclass\.storage\.k8s\.io/(requests\.storage|persistentvolumeclaims)"
)
_UNLIMITED = ("limits.cpu", "limits.ephemeral-storage")
"""Pods of Ray have no such limit, and a quota on it would keep every one of them from starting."""
_COUNTED = (
    "pods",
    "services",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.loadbalancers",
    "services.nodeports",
)


def _quota_remedy(key: str) -> str:
    """What to write instead; empty if Kubernetes takes ``key``."""
    kind, dot, resource = key.partition(".")
    if key in _UNLIMITED:
        return f"Write requests.{resource}: the pods have no such limit, and none would start."
    if kind in ("requests", "limits") and dot:
        if resource in _COMPUTE or (kind == "requests" and resource == "storage"):
            return ""
        if kind == "requests" and ("/" in resource or resource.startswith("hugepages-")):
            return ""
        if "/" in resource:
            return f"Write requests.{resource}: extended resources are limited by their requests."
    elif key in _COMPUTE or key in _COUNTED or _OF_OBJECTS.fullmatch(key):
        return ""
    if "/" in key and not key.startswith("count/"):
        return f"Write requests.{key}: extended resources are limited by their requests."
    return "Write such as requests.cpu, limits.memory, requests.nvidia.com/gpu or pods."


class Queue(Spec):
    """Wait in a queue until there is room for the whole cluster."""

    name: FilledLabel
    """Kueue's LocalQueue, Volcano's queue, or YuniKorn's, such as ``root.team-a``."""
    kind: Literal["kueue", "volcano", "yunikorn"] = "kueue"
    """Whose queue it is."""
    priority: Annotated[ObjectName, Field(max_length=63)] | None = None
    """Kueue's WorkloadPriorityClass, or Volcano's PriorityClass."""
    cluster_queue: ObjectName | None = None
    """Kueue's ClusterQueue that the LocalQueue shall lead to; None: the LocalQueue is there."""

    @model_validator(mode="after")
    def _whole(self) -> Queue:
        problems = []
        if self.kind != "yunikorn" and not is_subdomain(self.name):
            told = f"{self.name!r} is not the name of a queue of {self.kind}."
            problems.append(Problem("name", told, "Use a–z, 0–9, '-' and '.'."))
        if self.cluster_queue and self.kind != "kueue":
            told = f"{self.cluster_queue!r} is of Kueue, but kind is {self.kind!r}."
            problems.append(Problem("cluster_queue", told, "Leave it out."))
        if self.priority and self.kind == "yunikorn":
            told = "has no effect: YuniKorn takes priorities from the queue and the pods."
            problems.append(Problem("priority", told, "Say priority_class of groups instead."))
        if problems:
            raise Refused(problems)
        return self


class Operator(Spec):
    """The KubeRay operator that is installed."""

    version: Annotated[str, AfterValidator(_version)] = "1.7.0"
    """Its version."""
    gates: Annotated[tuple[str, ...], AfterValidator(_gates)] = ()
    """Feature gates that it was installed with, of those that are off by default."""


class Karpenter(Spec):
    """What Karpenter needs to know to start nodes; from it come a NodePool for each group."""

    node_role: Annotated[str, Field(min_length=1)]
    """Name of the nodes' IAM role."""
    subnets: Tags
    """Tags that the subnets have, such as ``{"karpenter.sh/discovery": "my-cluster"}``."""
    security_groups: Tags
    """Tags that the security groups have."""
    ami: Annotated[str, Field(pattern=r"^(al2023|bottlerocket)@.+$")] = "al2023@latest"
    """Alias of the image of nodes; pin it (``al2023@v20260101``) so that nodes stay equal."""
    limits: dict[str, Quantity] = Field(default_factory=dict)
    """The most that each NodePool may start, such as ``{"cpu": "1000"}``."""
