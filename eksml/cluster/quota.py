"""Which EC2 quotas a cluster needs, in vCPUs: how EC2 limits what an account may run."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eksml.cluster.catalogue import instance
from eksml.cluster.fit import Fit, GroupFit, InstanceFit, Scale

_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
_QUOTAS = {
    "G": ("L-DB2E81BA", "L-3819A6DF", "G and VT"),
    "P": ("L-417A185B", "L-7212CCBC", "P"),
    "Trn": ("L-2C3B7624", "L-6B0D517C", "Trn"),
    "Inf": ("L-1945791B", "L-B5D1601B", "Inf"),
    "Standard": ("L-1216C47A", "L-34B43A08", _STANDARD),
}
"""Service Quotas' codes of service ``ec2``: running on demand, and on spot."""

_FAMILY_OF = {"g": "G", "gr": "G", "vt": "G", "p": "P", "trn": "Trn", "inf": "Inf"}


@dataclass(frozen=True)
class VcpuQuota:
    """One quota of service ``ec2``, and how much of it the cluster takes."""

    code: str
    name: str
    """As Service Quotas calls it."""
    vcpus: Scale[int]
    groups: tuple[str, ...]
    """Who takes it."""


def quotas(fit: Fit) -> tuple[VcpuQuota, ...]:
    """The quotas that all of ``fit`` needs at the same time, the largest first.

    A group with several instance types may take whichever: each of their quotas must hold it.
    Reserved capacity counts as on demand, which holds for capacity reservations. Whatever else
    the account runs comes on top.
    """
    taken: dict[tuple[str, str], dict[str, Scale[int]]] = {}
    for group in fit.groups:
        for on in group.on:
            if on.pods_per_machine:
                of_quota = taken.setdefault(_quota(group, on), {})
                vcpus = _vcpus(on)
                known = of_quota.get(group.group, vcpus)
                of_quota[group.group] = max(known, vcpus, key=lambda scale: scale.max)
    needed = [
        VcpuQuota(code, name, _sum(list(groups.values())), tuple(groups))
        for (code, name), groups in taken.items()
    ]
    return tuple(sorted(needed, key=lambda quota: (-quota.vcpus.max, quota.code)))


def _quota(group: GroupFit, on: InstanceFit) -> tuple[str, str]:
    letters = re.match(r"[a-z]+", on.instance)
    family = _FAMILY_OF.get(letters[0] if letters else "", "Standard")
    on_demand, spot, name = _QUOTAS[family]
    if group.market == "spot":
        return spot, f"All {name} Spot Instance Requests"
    return on_demand, f"Running On-Demand {name} instances"


def _vcpus(on: InstanceFit) -> Scale[int]:
    each = instance(on.instance).vcpus
    machines = on.machines
    return Scale(machines.min * each, machines.start * each, machines.max * each)


def _sum(scales: list[Scale[int]]) -> Scale[int]:
    return Scale(
        sum(scale.min for scale in scales),
        sum(scale.start for scale in scales),
        sum(scale.max for scale in scales),
    )
