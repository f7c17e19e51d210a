"""How large the pod of a node is on EKS, and what Ray gives out of it.

A pod gets what the smallest of its instance types can allocate, cut into ``pods_per_node`` equal
shares; requests equal limits, so that the kubelet evicts it last. Where no instance is named, the
pod is as large as the specification says.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from eksml.cluster.allocatable import GIB, MIB, allocatable
from eksml.cluster.catalogue import Instance, instance
from eksml.cluster.groups import Node, WorkerGroup
from eksml.cluster.head import Head
from eksml.cluster.vocabulary import EFA, GPU, HUGE_PAGES, NEURON_CORES, NEURON_DEVICES
from eksml.errors import InvalidSpec

OBJECT_STORE_SHARE = 0.3
"""Of a node's memory, unless said otherwise: Ray's own default."""
OBJECT_STORE_MOST = 200 * 1000**3
"""Ray's default goes no higher."""
MEMORY_PER_CPU = 4 * GIB
"""Of a pod whose specification names neither instance nor memory: as EC2's m families have."""
HUGEPAGES_BYTES = 5120 * MIB
"""What the pods of a machine ask for with EFA, as AWS's examples do."""
HEAD_CPUS, HEAD_MEMORY = 4, 16 * GIB
SIDECARS_MILLI, SIDECARS_BYTES = 1000, GIB
"""Room beside the head's container for the autoscaler (500m, 512Mi) and a job's submitter (500m,
200Mi), which KubeRay puts into the same pod."""


@dataclass(frozen=True)
class PodSize:
    """The Ray container of one node."""

    cpus_milli: int
    memory_bytes: int
    """All of the container: Ray's memory and its object store, which lies in /dev/shm."""
    ray_cpus: int
    """CPUs that Ray gives out."""
    ray_memory_bytes: int
    """Memory that Ray gives out to tasks and actors."""
    object_store_bytes: int
    gpus: int = 0
    neuron_cores: int = 0
    """As Ray counts them."""
    neuron_devices: int = 0
    """Whole Neuron devices to ask Kubernetes for. 0 with ``neuron_cores``: ask for the cores,
    since the share is less than a device."""
    efa: int = 0
    """EFA interfaces."""
    hugepages_bytes: int = 0
    scratch_bytes: int = 0

    def requests(self) -> dict[str, str]:
        """Kubernetes' requests, which are the limits as well; by name, in Kubernetes' notation."""
        amounts = {
            "cpu": f"{self.cpus_milli}m",
            "memory": f"{self.memory_bytes // MIB}Mi",
            "ephemeral-storage": f"{self.scratch_bytes // MIB}Mi" if self.scratch_bytes else "",
            GPU: _count(self.gpus),
            NEURON_DEVICES: _count(self.neuron_devices),
            NEURON_CORES: "" if self.neuron_devices else _count(self.neuron_cores),
            EFA: _count(self.efa),
            HUGE_PAGES: f"{self.hugepages_bytes // MIB}Mi" if self.hugepages_bytes else "",
        }
        return {name: amount for name, amount in amounts.items() if amount}

    def offers(self) -> dict[str, float]:
        """Ray's resources of the node, as Ray names them; custom ones aside."""
        offered = {
            "CPU": self.ray_cpus,
            "GPU": self.gpus,
            "neuron_cores": self.neuron_cores,
            "memory": self.ray_memory_bytes,
            "object_store_memory": self.object_store_bytes,
        }
        return {name: float(amount) for name, amount in offered.items() if amount}


@dataclass(frozen=True)
class Share:
    """What a machine has for one of the equal pods on it."""

    cpus_milli: int
    memory_bytes: int
    ephemeral_bytes: int
    nvme_bytes: int
    gpus: int
    neuron_cores: int
    neuron_devices: int
    efa: int


def resolve(node: WorkerGroup | Head) -> PodSize:
    """The size of one pod of a group, or of the head, on EKS.

    Raises:
        InvalidSpec: it cannot be had of its instance types; with every problem.
    """
    from eksml.cluster.checks.sizes import problems

    if found := list(problems(node)):
        raise InvalidSpec(found, subject="the size of the node")
    return pod_size(node)


def pod_size(node: WorkerGroup | Head) -> PodSize:
    """As :func:`resolve`, of a node that was checked already."""
    if isinstance(node, Head):
        return _head_size(node)
    share = share_of(node.instances, node.pods_per_node, efa=node.efa) if node.instances else None
    if share is None:
        return _stated_size(node)
    return _size(
        node,
        cpus_milli=share.cpus_milli,
        memory_bytes=share.memory_bytes,
        ray_cpus=share.cpus_milli // 1000 if node.cpus is None else node.cpus,
        gpus=share.gpus,
        neuron_cores=share.neuron_cores if node.neuron_cores is None else node.neuron_cores,
        neuron_devices=share.neuron_devices,
        efa=share.efa if node.efa else 0,
        shm=node.shm,
        hugepages_bytes=_even(HUGEPAGES_BYTES // node.pods_per_node) if node.efa else 0,
        scratch_bytes=node.scratch or 0,
    )


@functools.lru_cache(maxsize=4096)
def share_of(names: tuple[str, ...], pods_per_node: int, *, efa: bool = False) -> Share:
    """What each of ``pods_per_node`` equal pods has on the smallest of these instance types.

    Raises:
        InvalidSpec: the catalogue has no such type.
    """
    shares = [_share(instance(name), pods_per_node, efa) for name in names]
    fields = Share.__dataclass_fields__
    return Share(**{field: min(getattr(share, field) for share in shares) for field in fields})


def _share(machine: Instance, pods: int, efa: bool) -> Share:
    free = allocatable(machine, efa=efa)
    devices = machine.neuron.devices if machine.neuron else 0
    return Share(
        cpus_milli=free.cpus_milli // pods // 100 * 100,
        memory_bytes=free.memory_bytes // pods // MIB * MIB,
        ephemeral_bytes=free.ephemeral_bytes // pods,
        nvme_bytes=machine.nvme_bytes // pods,
        gpus=machine.gpu.count // pods if machine.gpu else 0,
        neuron_cores=machine.neuron.cores // pods if machine.neuron else 0,
        neuron_devices=devices // pods if devices % pods == 0 else 0,
        efa=machine.efa // pods,
    )


def _stated_size(group: WorkerGroup) -> PodSize:
    cpus = 1 if group.cpus is None else group.cpus
    pod_cpus = max(cpus, 1)
    return _size(
        group,
        cpus_milli=pod_cpus * 1000,
        memory_bytes=_stated_memory(group, pod_cpus),
        ray_cpus=cpus,
        shm=group.shm,
    )


def _stated_memory(group: WorkerGroup, cpus: int) -> int:
    """Room for Ray's memory and its object store."""
    if group.memory is None:
        return max(cpus * MEMORY_PER_CPU, 2 * (group.object_store_memory or 0))
    if group.object_store_memory is not None:
        return _up(group.memory + group.object_store_memory)
    whole = group.memory / (1 - OBJECT_STORE_SHARE)
    return _up(group.memory + min(int(whole * OBJECT_STORE_SHARE) + 1, OBJECT_STORE_MOST))


def _head_size(head: Head) -> PodSize:
    cpus_milli, memory = HEAD_CPUS * 1000, HEAD_MEMORY
    if head.instances:
        share = share_of(head.instances, 1)
        cpus_milli = max(0, share.cpus_milli - SIDECARS_MILLI)
        memory = max(0, share.memory_bytes - SIDECARS_BYTES)
    return _size(
        head,
        cpus_milli=cpus_milli if head.pod_cpus is None else head.pod_cpus * 1000,
        memory_bytes=memory if head.pod_memory is None else _up(head.pod_memory),
        ray_cpus=head.cpus or 0,
        gpus=head.gpus or 0,
        neuron_cores=head.neuron_cores or 0,
        shm=None,
    )


def _size(
    node: Node, *, cpus_milli: int, memory_bytes: int, ray_cpus: int, shm: int | None, **more: int
) -> PodSize:
    store = _object_store(node, memory_bytes, shm)
    return PodSize(
        cpus_milli=cpus_milli,
        memory_bytes=memory_bytes,
        ray_cpus=ray_cpus,
        ray_memory_bytes=max(0, memory_bytes - store) if node.memory is None else node.memory,
        object_store_bytes=store,
        **more,
    )


def _object_store(node: Node, memory_bytes: int, shm: int | None) -> int:
    """What is said; else Ray's usual share, within /dev/shm and beside the memory that is said."""
    if node.object_store_memory is not None:
        return node.object_store_memory
    usual = min(int(memory_bytes * OBJECT_STORE_SHARE), OBJECT_STORE_MOST)
    limits = [usual] if shm is None else [usual, shm]
    if node.memory is not None:
        limits.append(max(0, memory_bytes - node.memory))
    return min(limits) // MIB * MIB


def machines(group: WorkerGroup, nodes: int) -> int:
    """How many machines hold so many nodes of the group."""
    return -(-nodes // group.pods_per_node)


def _even(amount: int) -> int:
    """Huge pages are of 2Mi."""
    return amount // (2 * MIB) * 2 * MIB


def _up(amount: int) -> int:
    return -(-amount // MIB) * MIB


def _count(amount: int) -> str:
    return str(amount) if amount else ""
