"""Can a pod of that size be had of those instance types? Held against the catalogue."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from eksml.cluster.allocatable import GIB
from eksml.cluster.catalogue import Instance, instance, instances
from eksml.cluster.head import Head
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup

OBJECT_STORE_LEAST = 80 * 1024**2
"""Ray starts no node with less than 75 MiB."""
_EVICTION = 0.85
"""Of a disk; the kubelet evicts pods when less than 15 % are left to images."""


def problems(node: WorkerGroup | Head) -> Iterator[Problem]:
    """All of them; paths are relative to the group, or to the head."""
    unknown = list(_unknown(node.instances))
    if unknown:
        yield from unknown
        return
    machines = [instance(name) for name in node.instances]
    if isinstance(node, Head):
        yield from _head(node, machines)
    elif machines:
        yield from _alike(machines)
        yield from _shares(node, machines)
        yield from _stated(node)
    else:
        yield from _without_instance(node)


def _unknown(names: tuple[str, ...]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        try:
            instance(name)
        except InvalidSpec as error:
            path = "instance" if len(names) == 1 else f"instance.{index}"
            (problem,) = error.problems
            yield Problem(path, problem.message, problem.remedy)


def _alike(machines: list[Instance]) -> Iterator[Problem]:
    """A group's nodes are equal to Ray: their labels and resources are stated once."""
    for one, other in pairwise(machines):
        if one.arch != other.arch:
            yield _unlike(one, other, f"{one.arch} and {other.arch} need different images.")
        elif _accelerators(one) != _accelerators(other):
            told = f"one has {_accelerators(one)}, the other {_accelerators(other)}."
            yield _unlike(one, other, told)


def _unlike(one: Instance, other: Instance, told: str) -> Problem:
    remedy = "Make it two groups; their priority says which is taken first."
    return Problem("instance", f"{one.name} and {other.name} cannot be one group: {told}", remedy)


def _accelerators(machine: Instance) -> str:
    if machine.gpu:
        return f"{machine.gpu.count} {machine.gpu.name}"
    if machine.neuron:
        return f"{machine.neuron.devices} {machine.neuron.name}"
    return "no accelerator"


def _shares(group: WorkerGroup, machines: list[Instance]) -> Iterator[Problem]:
    first, pods = machines[0], group.pods_per_node
    has = {
        "GPUs": first.gpu.count if first.gpu else 0,
        "NeuronCores": first.neuron.cores if first.neuron else 0,
    }
    for what, count in has.items():
        if count % pods:
            told = f"the {count} {what} of {first.name} do not divide by {pods}."
            yield Problem("pods_per_node", told, f"Write a divisor of {count}.")
    if group.efa:
        for machine in machines:
            if not machine.efa:
                yield Problem("efa", f"{machine.name} has no EFA.", _with_efa(machine))
            elif machine.efa % pods:
                told = (
                    f"the {machine.efa} EFA interfaces of {machine.name} do not divide by {pods}."
                )
                yield Problem("efa", told, "Choose other pods_per_node, or leave out efa.")
    for machine in machines:
        if group.scratch and not machine.nvme_bytes:
            yield Problem("scratch", f"{machine.name} has no local disk.", "Leave it out.")
        elif group.scratch and group.scratch > machine.nvme_bytes / pods * _EVICTION:
            most = math.floor(machine.nvme_bytes / pods * _EVICTION / GIB)
            told = f"{_gib(group.scratch)} is more than {machine.name} can give a pod."
            yield Problem("scratch", told, f"Ask for at most {most}Gi.")


def _with_efa(machine: Instance) -> str:
    """Larger sisters and types with the same accelerator that have EFA."""
    found = [
        other
        for other in instances().values()
        if other.efa
        and (other.family == machine.family or other.accelerator == machine.accelerator)
    ]
    return f"These have it: {_names(found)}." if found else "Leave it out."


def _stated(group: WorkerGroup) -> Iterator[Problem]:
    """What the specification says beside the instance must be what the instance has."""
    from eksml.cluster.sizing import share_of

    share = share_of(group.instances, group.pods_per_node, efa=group.efa)
    name = "the smallest of them" if len(group.instances) > 1 else group.instances[0]
    machine = instance(group.instances[0])
    physical = machine.neuron.physical_cores // group.pods_per_node if machine.neuron else 0
    if group.gpus not in (None, share.gpus):
        told = f"{group.gpus}, but a pod on {name} has {share.gpus}."
        yield Problem("gpus", told, "Leave it out, or change instance or pods_per_node.")
    if group.neuron_cores not in (None, share.neuron_cores, physical):
        told = f"{group.neuron_cores}, but a pod on {name} has {share.neuron_cores}."
        yield Problem("neuron_cores", told, "Leave it out, or change instance or pods_per_node.")
    if group.accelerator not in (None, machine.accelerator):
        told = f"{group.accelerator!r}, but {machine.name} has {machine.accelerator}."
        yield Problem("accelerator", told, "Leave it out.")
    if (arch := group.node_selector.get("kubernetes.io/arch", machine.arch)) != machine.arch:
        told = f"{machine.name} is {machine.arch}, not {arch}."
        yield Problem("node_selector.kubernetes.io/arch", told, "Leave it out.")
    yield from _fits(group, share.cpus_milli, share.memory_bytes, name)


def _fits(group: WorkerGroup, cpus_milli: int, memory: int, name: str) -> Iterator[Problem]:
    if cpus_milli < 1000 or memory < GIB:
        path = "pods_per_node" if group.pods_per_node > 1 else "instance"
        told = f"leaves a pod {cpus_milli / 1000:g} CPUs and {_gib(memory)} on {name}."
        yield Problem(path, told, "Choose a larger instance, or fewer pods on it.")
        return
    if (group.cpus or 0) * 1000 > cpus_milli:
        told = f"{group.cpus}, but a pod on {name} has {cpus_milli // 1000}."
        yield Problem("cpus", told, "Leave it out for all of them.")
    yield from _memory(group, f"a pod on {name}")
    if group.shm and group.shm > memory:
        told = f"{_gib(group.shm)}, but a pod on {name} has {_gib(memory)} in all."
        yield Problem("shm", told, "Write less, or leave it out.")


def _memory(node: WorkerGroup | Head, where: str) -> Iterator[Problem]:
    """Ray's memory and its object store share what the pod has."""
    from eksml.cluster.sizing import pod_size

    size = pod_size(node)
    asked = (node.memory or 0) + (node.object_store_memory or 0)
    if asked > size.memory_bytes:
        told = f"with the object store {_gib(asked)}, but {where} has {_gib(size.memory_bytes)}."
        path = "memory" if node.memory else "object_store_memory"
        yield Problem(path, told, "Write less, or leave it out.")
    elif size.object_store_bytes < OBJECT_STORE_LEAST:
        told = f"leaves {size.object_store_bytes} bytes to the object store; Ray needs 80Mi."
        path = "memory" if node.object_store_memory is None else "object_store_memory"
        yield Problem(path, told, "Write less memory, or more object_store_memory.")
    elif size.ray_memory_bytes == 0:
        yield Problem("object_store_memory", "leaves no memory to tasks.", "Write less.")


def _without_instance(group: WorkerGroup) -> Iterator[Problem]:
    for field, what in (("gpus", "GPUs"), ("neuron_cores", "NeuronCores")):
        if count := getattr(group, field):
            told = f"is missing: {count} {what} come with an instance type."
            yield Problem("instance", told, f"Choose such as {_examples(group, field)}.")
    if group.accelerator and not (group.gpus or group.neuron_cores):
        told = f"{group.accelerator!r}, but nothing brings the pods to nodes that have it."
        yield Problem("accelerator", told, "Name the instance.")
    yield from _memory(group, "the pod")


def _examples(group: WorkerGroup, field: str) -> str:
    """The smallest types that have at least so many of them, and the accelerator if one is said."""

    def enough(machine: Instance) -> bool:
        if field == "gpus":
            return machine.gpu is not None and machine.gpu.count >= (group.gpus or 0)
        return machine.neuron is not None and machine.neuron.cores >= (group.neuron_cores or 0)

    found = [machine for machine in instances().values() if enough(machine)]
    same = [machine for machine in found if group.accelerator in (None, machine.accelerator)]
    return _names(same or found)


def _names(machines: list[Instance]) -> str:
    return ", ".join(machine.name for machine in sorted(machines, key=_by_size)[:3]) or "none"


def _by_size(machine: Instance) -> tuple[int, str]:
    return machine.vcpus, machine.name


def _head(head: Head, machines: list[Instance]) -> Iterator[Problem]:
    from eksml.cluster.sizing import SIDECARS_BYTES, SIDECARS_MILLI, pod_size, share_of

    yield from _alike(machines)
    yield from _head_accelerators(head, machines)
    size = pod_size(head)
    if head.instances:
        share = share_of(head.instances, 1)
        cpus, memory = share.cpus_milli - SIDECARS_MILLI, share.memory_bytes - SIDECARS_BYTES
        told = "beside KubeRay's sidecars the node has {}."
        if size.cpus_milli > cpus:
            yield Problem("pod_cpus", f"{head.pod_cpus}: {told.format(cpus // 1000)}", _LESS)
        if size.memory_bytes > memory:
            yield Problem(
                "pod_memory", f"{_gib(size.memory_bytes)}: {told.format(_gib(memory))}", _LESS
            )
        if cpus < 1000 or memory < 2 * GIB:
            yield Problem("instance", "is too small for a head.", "Choose a larger one.")
            return
    if size.ray_cpus * 1000 > size.cpus_milli:
        told = f"{size.ray_cpus}, but the head's pod has {size.cpus_milli // 1000}."
        yield Problem("cpus", told, "Write less, or raise pod_cpus or the instance.")
    yield from _memory(head, "the head's pod")


def _head_accelerators(head: Head, machines: list[Instance]) -> Iterator[Problem]:
    """All of them or none: a head that asks for none is kept off such nodes by their taint."""
    for field in ("gpus", "neuron_cores"):
        wanted = getattr(head, field) or 0
        if wanted and not machines:
            yield Problem("instance", f"is missing: {field} come with a type.", "Name it.")
        for machine in machines:
            cores = machine.neuron.cores if machine.neuron else 0
            has = cores if field == "neuron_cores" else machine.gpu.count if machine.gpu else 0
            if wanted != has:
                told = f"{wanted}, but {machine.name} has {has}."
                yield Problem(field, told, f"Write {has}, or choose another instance.")


_LESS = "Write less, or choose a larger instance."


def _gib(amount: int) -> str:
    return f"{amount / GIB:.1f}Gi"
