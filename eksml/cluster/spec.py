"""The specification of a cluster: one model, the same in Python and in YAML."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from eksml.cluster.groups import WorkerGroup
from eksml.cluster.head import Head
from eksml.cluster.image import Image
from eksml.cluster.mounts import Mount
from eksml.cluster.names import Env, Name, Namespace
from eksml.cluster.options import (
    Autoscaling,
    HeadState,
    Identity,
    Karpenter,
    Operator,
    Queue,
    Quota,
    Security,
)
from eksml.cluster.problems import Refused, Spec
from eksml.cluster.vocabulary import ROCKSDB_GATE
from eksml.cluster.yaml import dump_yaml, load_yaml, load_yaml_file
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.backends import Running

_RAY_VERSION = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


def _ray_version(version: str) -> str:
    if not _RAY_VERSION.fullmatch(version):
        raise ValueError("not a version of Ray such as 2.60.0")
    return version


def _region(name: str) -> str:
    if not _REGION.fullmatch(name):
        raise ValueError("not a region such as us-east-1")
    return name


@functools.cache
def _installed_ray() -> str:
    return importlib.metadata.version("ray")  # reads a long file each time


class Cluster(Spec):
    """What a cluster shall be. Pure data: nothing starts before :meth:`up`."""

    name: Name
    """The cluster's name, unique on this machine or in its namespace."""
    backend: Literal["local", "eks"] = "local"
    """Where it runs: ``local`` starts each node as processes of this machine."""
    head: Head = Head()
    """The head node."""
    groups: tuple[WorkerGroup, ...] = ()
    """The worker groups."""
    namespace: Namespace = "default"
    """The Kubernetes namespace."""
    region: Annotated[str, AfterValidator(_region)] = "us-east-1"
    """The AWS region: for prices, zones and node pools."""
    image: Image | None = None
    """Container image of all nodes, with a tag or digest. None: Ray's own of ``ray_version`` and
    this Python, for GPUs where a group has them."""
    ray_version: Annotated[str, AfterValidator(_ray_version)] | None = None
    """Ray's version in the images. None: that of the Ray installed here."""
    autoscaling: Autoscaling | None = None
    """Ray's autoscaler. None: with its defaults if a group may grow (min < max), else off."""
    head_state: HeadState | None = None
    """Where the head's tables lie. None: on a volume, if the operator has the gate for it."""
    identity: Identity = Identity()
    """Service account and role of the nodes."""
    security: Security = Security()
    """Pod security, network policy, token."""
    quota: Quota | None = None
    """Limits of the namespace. None: none."""
    queue: Queue | None = None
    """The queue to wait in. None: none."""
    mounts: tuple[Mount, ...] = ()
    """Storage on every node."""
    monitoring: bool = True
    """A PodMonitor for Prometheus."""
    protected: bool = True
    """Karpenter leaves working nodes alone, and a disruption budget guards the head."""
    operator: Operator = Operator()
    """The KubeRay operator that is installed."""
    karpenter: Karpenter | None = None
    """What node pools need to know. None: none are rendered."""
    env: Env = Field(default_factory=dict)
    """Environment variables of every node. The caller's own RAY_… variables do not travel."""
    notice_s: Annotated[int, Field(strict=True, ge=1)] = 20
    """Seconds between the notice of a reclaim and the kill. (EC2 gives 120 on spot.)"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        from eksml.cluster.checks import cluster, eks

        found = list(cluster.problems(self))
        if self.backend == "eks":
            found += eks.problems(self)
        if found:
            raise Refused(found)
        return self

    @property
    def ray(self) -> str:
        """Ray's version on the nodes."""
        return self.ray_version or _installed_ray()

    @property
    def scaling(self) -> Autoscaling | None:
        """The autoscaler as it will run; None if it is off."""
        grows = any(group.nodes[0] < group.nodes[1] for group in self.groups)
        return self.autoscaling or (Autoscaling() if grows else None)

    @property
    def autoscaled(self) -> bool:
        """Whether Ray's autoscaler runs."""
        return self.scaling is not None

    @property
    def state(self) -> HeadState | None:
        """Where the head's tables lie; None: in its memory only, lost with it."""
        if self.head_state is None and ROCKSDB_GATE in self.operator.gates:
            return HeadState(store="rocksdb")
        return self.head_state

    def group(self, name: str) -> WorkerGroup:
        """The group of that name.

        Raises:
            InvalidSpec: there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        names = ", ".join(group.name for group in self.groups) or "none"
        problem = Problem(
            "group", f"{name!r} is not a group of cluster {self.name!r}.", f"Its groups: {names}."
        )
        raise InvalidSpec([problem], subject="the call")

    @classmethod
    def from_yaml(cls, source: str | Path) -> Cluster:
        """From YAML text, or from the file at a ``Path``.

        Raises:
            InvalidSpec: with every problem, each with its path.
        """
        if isinstance(source, Path):
            return cls.load(source)
        return cls(**load_yaml(source, "the YAML text"))

    @classmethod
    def load(cls, path: str | Path) -> Cluster:
        """From a YAML file.

        Raises:
            InvalidSpec: the file cannot be read, or with every problem in it.
        """
        return cls(**load_yaml_file(path, "the cluster's file"))

    def to_yaml(self) -> str:
        """As YAML that :meth:`from_yaml` reads back to an equal specification."""
        fields: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        if self.groups:
            fields["groups"] = [{"name": group["name"]} | group for group in fields["groups"]]
        return dump_yaml(fields)

    def manifest(self) -> dict[str, Any]:
        """The RayCluster as a plain dict, checked.

        Raises:
            InvalidSpec: it breaks a rule of KubeRay.
        """
        from eksml.cluster.render import ray_cluster

        return ray_cluster(self)

    def up(self, **options: Any) -> Running:
        """Start it and wait until all its nodes are there: :func:`eksml.backends.up`, which has
        the ``options``.

        This is the one upward call of the package: the noun that users hold offers the verb.
        """
        from eksml import backends

        return backends.up(self, **options)
