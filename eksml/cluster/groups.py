"""What a node is made of, and groups of equal nodes."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from eksml.cluster.problems import Spec
from eksml.cluster.quantity import Bytes
from eksml.errors import InvalidSpec, Problem

Market = Literal["on-demand", "spot", "reserved"]
Count = Annotated[int, Field(strict=True, ge=0)]

HEAD_GROUP = "headgroup"
"""The head's ``ray.io/node-group``, as KubeRay names it."""

NODE_GROUP_LABEL = "ray.io/node-group"
MARKET_LABEL = "ray.io/market-type"
ACCELERATOR_LABEL = "ray.io/accelerator-type"
_OURS = {
    NODE_GROUP_LABEL: "the group's name",
    MARKET_LABEL: "market",
    ACCELERATOR_LABEL: "accelerator",
}
_RAYS_OWN = {
    "CPU": "cpus",
    "GPU": "gpus",
    "memory": "memory",
    "object_store_memory": "object_store_memory",
    "neuron_cores": "neuron_cores",
}
_SIZES = ("cpus", "gpus", "neuron_cores")
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def is_name(text: str) -> bool:
    """Whether KubeRay would take ``text`` as the name of a cluster or group."""
    return len(text) <= 53 and bool(_DNS_1035.fullmatch(text))


def _dns_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(
            "not a DNS-1035 name of at most 53 characters: use a–z, 0–9 and '-', "
            "beginning with a letter and not ending with '-'"
        )
    return name


def _label_key(key: str) -> str:
    prefix, slash, word = key.rpartition("/")
    if not _LABEL_WORD.fullmatch(word) or (slash and not _LABEL_PREFIX.fullmatch(prefix)):
        raise ValueError(
            "not a Kubernetes label key: at most 63 of A–Z a–z 0–9 - _ . after a prefix/"
        )
    if key in _OURS:
        raise ValueError(f"set by eksml from {_OURS[key]}; leave it out")
    return key


def _label_value(value: str) -> str:
    if value and not _LABEL_WORD.fullmatch(value):
        raise ValueError("not a Kubernetes label value: at most 63 of A–Z a–z 0–9 - _ .")
    return value


def _resource_name(name: str) -> str:
    if name in _RAYS_OWN:
        raise ValueError(f"write it as the field {_RAYS_OWN[name]!r}")
    if not name or name.startswith("node:"):
        raise ValueError("not a name for a custom resource")
    return name


def _range(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("write a number of nodes, or (min, max)")
    if isinstance(value, int):
        return (value, value)
    return value


def _ordered(value: tuple[int, int]) -> tuple[int, int]:
    if value[0] > value[1]:
        raise ValueError(f"min {value[0]} is more than max {value[1]}")
    return value


def _short_range(value: tuple[int, int]) -> int | list[int]:
    return value[0] if value[0] == value[1] else list(value)


Name = Annotated[str, AfterValidator(_dns_name)]
Labels = dict[
    Annotated[str, AfterValidator(_label_key)], Annotated[str, AfterValidator(_label_value)]
]
Amount = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Resources = dict[Annotated[str, AfterValidator(_resource_name)], Amount]
NodeRange = Annotated[
    tuple[Count, Count],
    BeforeValidator(_range),
    AfterValidator(_ordered),
    PlainSerializer(_short_range),
]


class Node(Spec):
    """What one node offers. Ray counts these; nothing enforces them on a local node."""

    cpus: Count | None = 1
    """CPUs that Ray may give out. None: those of the instance."""
    gpus: Count | None = 0
    """GPUs, pretended on the local backend. None: those of the instance."""
    neuron_cores: Count | None = 0
    """NeuronCores, pretended on the local backend. None: those of the instance."""
    memory: Bytes | None = None
    """Memory for tasks and actors, such as ``4Gi``. None: what Ray finds on the machine."""
    object_store_memory: Bytes | None = None
    """Shared memory for objects. None: 256Mi on the local backend, Ray's own choice elsewhere."""
    resources: Resources = Field(default_factory=dict)
    """Custom resources, name to amount."""
    labels: Labels = Field(default_factory=dict)
    """Labels to select by, as Kubernetes labels. eksml adds group, market and accelerator."""

    def offers(self) -> dict[str, float]:
        """Ray's resources of one such node, as Ray names them.

        Raises:
            InvalidSpec: a size is left to an instance type.
        """
        if unknown := [size for size in _SIZES if getattr(self, size) is None]:
            raise InvalidSpec(
                [
                    Problem(
                        field,
                        "is left to the instance type, whose sizes are not known here.",
                        f"Say {field}=….",
                    )
                    for field in unknown
                ],
                subject="the node",
            )
        offered: dict[str, float] = {
            "CPU": self.cpus or 0,
            "GPU": self.gpus or 0,
            "neuron_cores": self.neuron_cores or 0,
            "memory": self.memory or 0,
            **self.resources,
        }
        return {name: float(amount) for name, amount in offered.items() if amount}


class WorkerGroup(Node):
    """Equal nodes that come and go together."""

    name: Name
    """The group's name, unique in its cluster."""
    nodes: NodeRange = (1, 1)
    """How many: a number, or (min, max) between which the group may be scaled."""
    replicas: Count | None = None
    """How many at the start. None: min."""
    market: Market = "on-demand"
    """How the nodes are bought. ``spot`` nodes may be reclaimed after a notice."""
    instance: str | None = None
    """EC2 instance type, such as ``g6.12xlarge``. The local backend only keeps the name."""
    accelerator: str | None = None
    """Ray's name of the accelerator, such as ``L4``; becomes ``ray.io/accelerator-type``."""

    @model_validator(mode="after")
    def _complete(self) -> WorkerGroup:
        if self.name in (HEAD_GROUP, "head"):
            raise ValueError(f"the name {self.name!r} is the head's; choose another")
        if self.replicas is not None and not self.nodes[0] <= self.replicas <= self.nodes[1]:
            raise ValueError(f"replicas {self.replicas} is not within nodes {self.nodes}")
        if self.instance is None:
            unsaid = [size for size in _SIZES if getattr(self, size) is None]
            if unsaid:
                raise ValueError(f"{' and '.join(unsaid)} can only be left out with an instance")
        return self

    @property
    def initial_nodes(self) -> int:
        """How many nodes the group starts with."""
        return self.nodes[0] if self.replicas is None else self.replicas

    def node_labels(self) -> dict[str, str]:
        """All labels of one node of this group, Ray's own included."""
        own = {NODE_GROUP_LABEL: self.name, MARKET_LABEL: self.market}
        if self.accelerator:
            own[ACCELERATOR_LABEL] = self.accelerator
        return {**self.labels, **own}


def cpu(instance: str | None = None, *, name: str = "cpu", **fields: Any) -> WorkerGroup:
    """A group of CPU nodes: ``cpu(cpus=4, nodes=2)`` or ``cpu("m7i.4xlarge", nodes=(0, 8))``.

    ``fields`` are those of :class:`WorkerGroup`.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {}, fields)


def gpu(instance: str | None = None, *, name: str = "gpu", **fields: Any) -> WorkerGroup:
    """A group of GPU nodes: ``gpu(cpus=4, gpus=1, nodes=2)`` or ``gpu("g6.12xlarge", nodes=2)``.

    Without an instance, one GPU a node unless ``gpus`` says otherwise.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {"gpus": 1}, fields)


def neuron(instance: str | None = None, *, name: str = "neuron", **fields: Any) -> WorkerGroup:
    """A group of Trainium or Inferentia nodes: ``neuron("trn1.32xlarge", nodes=2)``.

    Without an instance, two NeuronCores a node unless ``neuron_cores`` says otherwise.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {"neuron_cores": 2}, fields)


def _group(
    name: str, instance: str | None, sizes: dict[str, int], fields: dict[str, Any]
) -> WorkerGroup:
    sizes = {"cpus": 1} | sizes
    defaults = dict.fromkeys(sizes, None) if instance else sizes
    return WorkerGroup(name=name, instance=instance, **(defaults | fields))
