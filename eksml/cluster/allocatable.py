"""What pods of ours can have of an EKS node: its size less kernel, kubelet and daemonsets.

The reserves are those of EKS's own node images (amazon-eks-ami, ``nodeadm/internal/kubelet``):
no system reserve, and for the kubelet

- CPU: 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of all others;
- memory: 255 MiB + 11 MiB × max pods, and 100 MiB under which the kubelet evicts;
- ephemeral storage: 1 GiB, and 10 % under which the kubelet evicts.

A node reports less memory than EC2 states, because hypervisor and kernel take theirs first. How
much differs by type; Karpenter takes 7.5 % off (``VM_MEMORY_OVERHEAD_PERCENT=0.075``) so that a
pod that it has placed does fit, and so do we. The pod that is planned by these numbers fits; a
somewhat larger one may fit too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from eksml.cluster.catalogue import Instance

MIB, GIB = 1024**2, 1024**3

VM_MEMORY_OVERHEAD = 0.075
"""Share of the nominal memory that hypervisor and kernel keep. Karpenter's default."""
ARM_RESERVED_BYTES = 64 * MIB
"""Graviton's contiguous memory area, as Karpenter takes it off."""
ROOT_VOLUME_BYTES = 20 * GIB
"""EKS's default root volume, which holds the pods' images and files where no local disks do."""
HUGE_PAGES_BYTES = 5128 * 2 * MIB
"""What the EFA driver sets aside as ``hugepages-2Mi`` (EKS's guide, «Training clusters with EFA»):
memory that pods can have as huge pages only."""
_CPU_RESERVES = ((0, 1000, 600), (1000, 2000, 100), (2000, 4000, 50), (4000, None, 25))
"""From and to, in thousandths of a core; and the share, in hundredths of a per cent."""


@dataclass(frozen=True, slots=True)
class DaemonSet:
    """What one daemonset asks for on each node that it runs on."""

    name: str
    cpu_milli: int
    memory_bytes: int
    on: Literal["all", "gpu", "neuron", "efa"] = "all"
    """The nodes that it runs on."""

    def runs_on(self, instance: Instance) -> bool:
        """Whether nodes of that type get one."""
        return {
            "all": True,
            "gpu": instance.gpu is not None,
            "neuron": instance.neuron is not None,
            "efa": instance.efa > 0,
        }[self.on]


DAEMONSETS = (
    DaemonSet("aws-node", 50, 0),
    DaemonSet("kube-proxy", 100, 0),
    DaemonSet("eks-pod-identity-agent", 0, 0),
    DaemonSet("ebs-csi-node", 30, 120 * MIB),
    DaemonSet("s3-csi-node", 30, 120 * MIB),
    DaemonSet("fsx-csi-node", 30, 104 * MIB),
    DaemonSet("nvidia-device-plugin", 0, 0, on="gpu"),
    DaemonSet("neuron-device-plugin", 0, 0, on="neuron"),
    DaemonSet("aws-efa-k8s-device-plugin", 10, 20 * MIB, on="efa"),
)
"""What an EKS cluster for ML usually runs on its nodes, by the requests in each one's own chart or
add-on, sidecars included; 0 where it states none. Give :func:`allocatable` a longer tuple where
more runs (agents for logs, metrics or security)."""


@dataclass(frozen=True, slots=True)
class Allocatable:
    """What all pods of ours on one node can request together."""

    cpus_milli: int
    memory_bytes: int
    ephemeral_bytes: int
    pods: int


def allocatable(
    instance: Instance, daemonsets: tuple[DaemonSet, ...] = DAEMONSETS, *, efa: bool = False
) -> Allocatable:
    """What is left for our pods on a node of that type; nothing below 0.

    With ``efa``, the node's EFA interfaces are attached, and memory is short of the huge pages.
    Ephemeral storage is that of the local disks as one RAID 0 (Karpenter's
    ``instanceStorePolicy: RAID0``, ``localStorage.strategy: RAID0`` in a NodeConfig) where the type
    has disks, else of a root volume of 20 GiB.
    """
    theirs = [daemonset for daemonset in daemonsets if daemonset.runs_on(instance)]
    cpus = instance.vcpus * 1000 - reserved_cpu_milli(instance.vcpus)
    memory = capacity_bytes(instance) - reserved_memory_bytes(instance.max_pods)
    memory -= HUGE_PAGES_BYTES if efa else 0
    disk = instance.nvme_bytes or ROOT_VOLUME_BYTES
    return Allocatable(
        cpus_milli=max(0, cpus - sum(daemonset.cpu_milli for daemonset in theirs)),
        memory_bytes=max(0, memory - sum(daemonset.memory_bytes for daemonset in theirs)),
        ephemeral_bytes=max(0, disk - GIB - math.ceil(disk / 10)),
        pods=max(0, pod_limit(instance) - len(theirs)),
    )


def capacity_bytes(instance: Instance) -> int:
    """Memory that the node will report, estimated from below. Whole MiB."""
    nominal = instance.memory_bytes - (ARM_RESERVED_BYTES if instance.arch == "arm64" else 0)
    return nominal - math.ceil(nominal * VM_MEMORY_OVERHEAD / MIB) * MIB


def reserved_memory_bytes(max_pods: int) -> int:
    """The kubelet's memory and its eviction threshold.

    ``max_pods`` is the number by interfaces, uncapped: that is what EKS's images compute with.
    """
    return (255 + 11 * max_pods + 100) * MIB


def reserved_cpu_milli(vcpus: int) -> int:
    """The kubelet's CPU."""
    total = vcpus * 1000
    return sum(
        max(0, min(total, end or total) - start) * share // 10_000
        for start, end, share in _CPU_RESERVES
    )


def pod_limit(instance: Instance) -> int:
    """How many pods a node of a managed node group takes, daemonsets included.

    That is the number by addresses, at most 110; or 250 above 30 vCPUs (EKS's guide, «Choose an
    optimal instance type»).
    """
    return min(instance.max_pods, 250 if instance.vcpus > 30 else 110)
