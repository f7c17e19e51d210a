"""Where nodes come from: a managed node group or a NodePool, as far as the scheduler can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from eksml.cluster.catalogue import instances
from eksml.cluster.placement import INSTANCE_TYPE

ARCH = "kubernetes.io/arch"
_KARPENTER = "karpenter.k8s.aws/instance-"
_FAMILY = re.compile(r"(?P<category>[a-z]+?)(?P<generation>\d+)")
_MIB = 1024**2

Values = frozenset[str] | None
"""What a label may be on nodes of a source; None: whatever a pod asks for."""


@dataclass(frozen=True)
class Taint:
    """Keeps off every pod that does not tolerate it."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    def __str__(self) -> str:
        return (
            f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"
        )


@dataclass(frozen=True)
class Requirement:
    """What a label must be, as Kubernetes and Karpenter write it."""

    key: str
    operator: str
    """``In``, ``NotIn``, ``Exists``, ``DoesNotExist``, ``Gt`` or ``Lt``."""
    values: tuple[str, ...] = ()

    def allows(self, values: Values, *, labelled: bool = True) -> bool:
        """Whether one of the values would do; ``labelled``: whether nodes have the label at all."""
        if not labelled:
            return self.operator in ("NotIn", "DoesNotExist")
        if self.operator == "DoesNotExist":
            return False
        if values is None or self.operator == "Exists":
            return True
        if self.operator == "In":
            return bool(values & set(self.values))
        if self.operator == "NotIn":
            return bool(values - set(self.values))
        bound = float(self.values[0])
        numbers = [float(value) for value in values if value.replace(".", "", 1).isdigit()]
        return any(n > bound if self.operator == "Gt" else n < bound for n in numbers)


@dataclass(frozen=True)
class NodeSource:
    """A node group or NodePool."""

    name: str
    kind: Literal["node group", "NodePool"]
    instances: tuple[str, ...] | None
    """The types that it starts; None: any that ``requirements`` allow."""
    labels: Mapping[str, Values]
    """Labels of its nodes, besides those that follow from the instance type."""
    taints: tuple[Taint, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    """On the instance type, of a NodePool."""
    most: int | None = None
    """Machines at most; None: not limited by number."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Of a NodePool: ``cpu``, ``nvidia.com/gpu`` and so on that all its machines may have."""
    ill: str = ""
    """What AWS or Karpenter says is wrong with it; empty if it is well."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def labels_with(self, instance: str | None) -> dict[str, Values]:
        """All labels of a node of that type; None: of a type that nobody named."""
        return {**self.labels, **(labels_of(instance) if instance else {})}

    def starts(self, instance: str) -> bool:
        """Whether it starts machines of that type."""
        if self.instances is not None:
            return instance in self.instances
        known = labels_of(instance)
        return all(
            requirement.allows(known[requirement.key])
            for requirement in self.requirements
            if requirement.key in known
        )


def labels_of(instance: str) -> dict[str, Values]:
    """The labels that follow from an instance type, as far as they are known here."""
    family, _, size = instance.partition(".")
    found = {INSTANCE_TYPE: instance, f"{_KARPENTER}family": family, f"{_KARPENTER}size": size}
    if match := _FAMILY.match(family):
        found[f"{_KARPENTER}category"] = match["category"]
        found[f"{_KARPENTER}generation"] = match["generation"]
    known = instances().get(instance)
    if known is not None:
        found[ARCH] = known.arch
        found[f"{_KARPENTER}cpu"] = str(known.vcpus)
        found[f"{_KARPENTER}memory"] = str(known.memory_bytes // _MIB)
        if known.gpu:
            found[f"{_KARPENTER}gpu-count"] = str(known.gpu.count)
            found[f"{_KARPENTER}gpu-name"] = known.gpu.name.lower()
            found[f"{_KARPENTER}gpu-manufacturer"] = "nvidia"
    return {key: frozenset((value,)) for key, value in found.items()}
