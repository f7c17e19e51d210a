"""What a node is made of, and groups of equal nodes."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from eksml.cluster.image import Image
from eksml.cluster.mounts import Mount
from eksml.cluster.names import (
    INT32,
    AtLeastOne,
    Count,
    Env,
    FilledLabel,
    LabelKey,
    LabelValue,
    Name,
    Names,
    ObjectName,
)
from eksml.cluster.placement import (
    CapacityReservation,
    Market,
    NodeSelector,
    Spread,
    Toleration,
    Zone,
)
from eksml.cluster.pod import Pod
from eksml.cluster.problems import Refused, Spec
from eksml.cluster.quantity import Bytes
from eksml.errors import InvalidSpec, Problem

HEAD_GROUP = "headgroup"
"""The head's ``ray.io/node-group``, as KubeRay names it."""

NODE_GROUP_LABEL = "ray.io/node-group"
MARKET_LABEL = "ray.io/market-type"
ACCELERATOR_LABEL = "ray.io/accelerator-type"
ZONE_LABEL = "ray.io/availability-zone"
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
SIZES = {"cpus": 1, "gpus": 0, "neuron_cores": 0}
"""The fields that an instance type fills in, and what they are where none is named."""


def _ray_label(key: str) -> str:
    if key in _OURS:
        raise ValueError(f"set by eksml from {_OURS[key]}; leave it out")
    return key


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


Labels = dict[Annotated[LabelKey, AfterValidator(_ray_label)], LabelValue]
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

    cpus: Count | None = None
    """CPUs that Ray may give out. None: those of the instance; 1 where none is named."""
    gpus: Count | None = None
    """GPUs, pretended on the local backend. None: those of the instance; 0 where none is named."""
    neuron_cores: Count | None = None
    """NeuronCores, pretended on the local backend. None: as with ``gpus``."""
    memory: Bytes | None = None
    """Memory for tasks and actors, such as ``4Gi``. None: what Ray finds on the machine; on EKS
    that of the instance, or 4Gi a CPU where none is named."""
    object_store_memory: Bytes | None = None
    """Shared memory for objects. None: 256Mi on the local backend, Ray's own choice elsewhere."""
    resources: Resources = Field(default_factory=dict)
    """Custom resources, name to amount."""
    labels: Labels = Field(default_factory=dict)
    """Labels to select by, as Kubernetes labels. eksml adds group, market and accelerator."""
    instance: Names | None = None
    """EC2 instance type, such as ``g6.12xlarge``, or several that are as good. The local backend
    only keeps the names. None: whatever node the pod fits on."""
    image: Image | None = None
    """Container image. None: the cluster's."""
    env: Env = Field(default_factory=dict)
    """Environment variables, over the cluster's."""
    mounts: tuple[Mount, ...] = ()
    """Storage, besides the cluster's."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that are tolerated, besides those of GPU and Neuron nodes."""
    pod: Pod = Field(default_factory=dict)
    """More of the pod template (``metadata``, ``spec``), merged last and checked as a Pod."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        from eksml.cluster.checks.group import mount_problems

        if found := list(mount_problems(self.mounts)):
            raise Refused(found)
        return self

    @property
    def instances(self) -> tuple[str, ...]:
        """The instance types; empty if none is named."""
        return self.instance or ()

    def offers(self) -> dict[str, float]:
        """Ray's resources of one such node, as Ray names them.

        Raises:
            InvalidSpec: a size is left to an instance type.
        """
        if self.instance and (unknown := [size for size in SIZES if getattr(self, size) is None]):
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
        cpus = SIZES["cpus"] if self.cpus is None else self.cpus
        offered: dict[str, float] = {
            "CPU": cpus,
            "GPU": self.gpus or 0,
            "neuron_cores": self.neuron_cores or 0,
            "memory": self.memory or 0,
            **self.resources,
        }
        return {name: float(amount) for name, amount in offered.items() if amount}


class WorkerGroup(Node):
    """Equal nodes that come and go together. A node is one of Ray's: on EKS, one pod."""

    name: Name
    """The group's name, unique in its cluster."""
    nodes: NodeRange = (1, 1)
    """How many nodes: a number, or (min, max) between which the group may be scaled."""
    replicas: Count | None = None
    """How many at the start. None: min."""
    market: Market = "on-demand"
    """How the nodes are bought. ``spot`` nodes may be reclaimed after a notice."""
    accelerator: FilledLabel | None = None
    """Ray's name of the accelerator, such as ``L4``; becomes ``ray.io/accelerator-type``. None:
    that of the instance."""
    pods_per_node: AtLeastOne = 1
    """Into how many equal shares a machine is cut. Each share is one node of the group."""
    hosts: AtLeastOne = 1
    """How many nodes come and go as one (KubeRay's ``numOfHosts``); ``nodes`` counts all."""
    efa: bool = False
    """All of the instance's EFA interfaces, with huge pages, in one zone."""
    zones: tuple[Zone, ...] = ()
    """Availability zones. Empty: any of the region's; with ``efa`` one, chosen by the scheduler."""
    capacity_reservation: CapacityReservation | None = None
    """The reservation or capacity block to use, ``cr-…``; with market ``reserved``."""
    spread: Spread | None = None
    """Put nodes evenly into zones, or each on a host of its own. None: as the scheduler likes."""
    node_selector: NodeSelector = Field(default_factory=dict)
    """Well-known labels that the Kubernetes node must have, such as ``karpenter.sh/nodepool``."""
    shm: Bytes | None = None
    """Size of /dev/shm; counts towards the pod's memory. None: the operator's choice."""
    scratch: Bytes | None = None
    """Space on the instance's own NVMe disks, gone with the pod: for temporary files (``TMPDIR``),
    fetched weights (``EKSML_HOME``, ``HF_HOME``) and what else is put into /mnt/scratch. None:
    none."""
    priority: Annotated[int, Field(strict=True, ge=-INT32, le=INT32)] = 0
    """Which group the autoscaler takes first where several would do: the highest."""
    priority_class: ObjectName | None = None
    """Kubernetes' PriorityClass of the pods."""
    idle_timeout_s: Count | None = None
    """Seconds without work after which a node goes. None: the cluster's ``autoscaling``."""
    protected: bool | None = None
    """Whether Karpenter leaves the nodes alone while they work. None: as the cluster."""

    @model_validator(mode="after")
    def _complete(self) -> WorkerGroup:
        from eksml.cluster.checks.group import problems

        if found := list(problems(self)):
            raise Refused(found)
        return self

    @property
    def initial_nodes(self) -> int:
        """How many nodes the group starts with."""
        return self.nodes[0] if self.replicas is None else self.replicas

    def node_labels(self) -> dict[str, str]:
        """All labels of one node of this group, Ray's own included."""
        from eksml.cluster.catalogue import instances

        known = [instances()[name] for name in self.instances if name in instances()]
        accelerator = self.accelerator or (known[0].accelerator if known else None)
        own = {NODE_GROUP_LABEL: self.name, MARKET_LABEL: self.market}
        if accelerator:
            own[ACCELERATOR_LABEL] = accelerator
        if len(self.zones) == 1:
            own[ZONE_LABEL] = self.zones[0]
        return {**self.labels, **own}


def cpu(
    instance: str | tuple[str, ...] | None = None, *, name: str = "cpu", **fields: Any
) -> WorkerGroup:
    """A group of CPU nodes: ``cpu(cpus=4, nodes=2)`` or ``cpu("m7i.4xlarge", nodes=(0, 8))``.

    ``fields`` are those of :class:`WorkerGroup`.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {}, fields)


def gpu(
    instance: str | tuple[str, ...] | None = None, *, name: str = "gpu", **fields: Any
) -> WorkerGroup:
    """A group of GPU nodes: ``gpu(cpus=4, gpus=1, nodes=2)`` or ``gpu("g6.12xlarge", nodes=2)``.

    Without an instance, one GPU a node unless ``gpus`` says otherwise.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {"gpus": 1}, fields)


def neuron(
    instance: str | tuple[str, ...] | None = None, *, name: str = "neuron", **fields: Any
) -> WorkerGroup:
    """A group of Trainium or Inferentia nodes: ``neuron("trn1.32xlarge", nodes=2)``.

    Without an instance, two NeuronCores a node unless ``neuron_cores`` says otherwise.

    Raises:
        InvalidSpec: with every problem.
    """
    return _group(name, instance, {"neuron_cores": 2}, fields)


def _group(
    name: str,
    instance: str | tuple[str, ...] | None,
    sizes: dict[str, int],
    fields: dict[str, Any],
) -> WorkerGroup:
    unsaid = {} if instance else sizes
    return WorkerGroup(**(unsaid | {"name": name, "instance": instance} | fields))
