"""What EC2 sells, as far as Ray on EKS is concerned: one :class:`Instance` for each type.

The numbers are EC2's own (DescribeInstanceTypes); ``tools/catalogue.py`` writes them into
``catalogue.json``, together with the few corrections that are named there. The file is read when
the first instance is asked for, and once.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eksml.errors import InvalidSpec, Problem

Arch = Literal["amd64", "arm64"]
UsageClass = Literal["on-demand", "spot", "capacity-block"]

NEURON_ACCELERATOR = "aws-neuron-core"
"""Ray's accelerator type of every Trainium and Inferentia node."""

_DATA = Path(__file__).with_name("catalogue.json")
_MIB, _GB = 1024**2, 1000**3


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPUs of an instance; all of one kind."""

    name: str
    """Ray's accelerator type, such as ``L4`` or ``H100``."""
    count: int
    memory_bytes: int
    """Of one GPU, as EC2 states it."""


@dataclass(frozen=True, slots=True)
class Neuron:
    """The Trainium or Inferentia devices of an instance; all of one kind."""

    name: str
    """The device, such as ``Trainium2``. Ray calls all of them ``aws-neuron-core``."""
    devices: int
    """Chips: ``aws.amazon.com/neuron``."""
    cores: int
    """Cores that the Neuron tools, Ray (``neuron_cores``) and ranks count. On Trainium2 these are
    logical: two physical cores make one unless ``NEURON_LOGICAL_NC_CONFIG`` says otherwise."""
    physical_cores: int
    """Cores in silicon, as EC2 counts them."""
    memory_bytes: int
    """Of one device."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One EC2 instance type."""

    name: str
    vcpus: int
    memory_bytes: int
    """Nominal. What a pod can have is less: :func:`eksml.cluster.allocatable.allocatable`."""
    arch: Arch
    """As in the label ``kubernetes.io/arch``."""
    gpu: Gpu | None
    neuron: Neuron | None
    efa: int
    """EFA interfaces at most: ``vpc.amazonaws.com/efa``. 0: the type has no EFA."""
    nvme_bytes: int
    """Local NVMe disks together. 0: none."""
    network_gbps: float
    """What it can hold: the baseline where EC2 sells «up to»; all cards together."""
    max_pods: int
    """Addresses that the VPC's network plugin has for pods, without prefix delegation."""
    usage_classes: tuple[UsageClass, ...]
    """How EC2 sells it. A capacity reservation is possible for every on-demand type."""

    @property
    def family(self) -> str:
        """Such as ``g6`` for ``g6.12xlarge``."""
        return self.name.partition(".")[0]

    @property
    def accelerator(self) -> str | None:
        """What Ray calls the accelerator (``ray.io/accelerator-type``). None: it has none."""
        if self.gpu:
            return self.gpu.name
        return NEURON_ACCELERATOR if self.neuron else None


@functools.cache
def instances() -> Mapping[str, Instance]:
    """Every type of the catalogue by name; sorted by family, then by size."""
    rows = json.loads(_DATA.read_text(encoding="utf-8"))["instances"]
    return {name: _instance(name, row) for name, row in rows.items()}


def instance(name: str) -> Instance:
    """The instance type of that name.

    Raises:
        InvalidSpec: the catalogue has no such type; says the nearest names.
    """
    known = instances().get(name)
    if known is None:
        problem = Problem(
            "instance", f"{name!r} is not an instance type of the catalogue.", _nearest(name)
        )
        raise InvalidSpec([problem], subject="the instance type")
    return known


def _nearest(name: str) -> str:
    family = name.partition(".")[0]
    siblings = [other.name for other in instances().values() if other.family == family]
    if siblings:
        return f"Of {family} there are: {', '.join(siblings)}."
    if near := difflib.get_close_matches(name, instances(), n=3):
        return f"Did you mean {' or '.join(near)}?"
    return f"The families are: {', '.join({known.family: 0 for known in instances().values()})}."


def _instance(name: str, row: Mapping[str, Any]) -> Instance:
    return Instance(
        name=name,
        vcpus=row["vcpus"],
        memory_bytes=row["memory_mib"] * _MIB,
        arch=row["arch"],
        gpu=_gpu(row["gpu"]) if "gpu" in row else None,
        neuron=_neuron(row["neuron"]) if "neuron" in row else None,
        efa=row.get("efa", 0),
        nvme_bytes=row.get("nvme_gb", 0) * _GB,
        network_gbps=row["network_gbps"],
        max_pods=row["max_pods"],
        usage_classes=tuple(row["usage_classes"]),
    )


def _gpu(row: Mapping[str, Any]) -> Gpu:
    return Gpu(row["name"], row["count"], row["memory_mib"] * _MIB)


def _neuron(row: Mapping[str, Any]) -> Neuron:
    return Neuron(
        name=row["name"],
        devices=row["devices"],
        cores=row["cores"],
        physical_cores=row["physical_cores"],
        memory_bytes=row["memory_mib"] * _MIB,
    )
