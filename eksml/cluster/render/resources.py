"""What a container asks of Kubernetes, and what Ray gives out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eksml.cluster.sizing import PodSize

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.head import Head

_UNLIMITED = ("cpu", "ephemeral-storage")
"""Requested, but without a limit: a limit on CPU throttles Ray even where the node is idle, one on
ephemeral storage evicts a node for its logs (scratch has a limit of its own)."""


def container_resources(size: PodSize) -> dict[str, Any]:
    """The container's ``resources``: for memory and devices, limits equal requests."""
    requests = size.requests()
    limits = {name: amount for name, amount in requests.items() if name not in _UNLIMITED}
    return {"limits": limits, "requests": requests}


def group_resources(size: PodSize, group: WorkerGroup) -> dict[str, str]:
    """The group's ``resources``: Ray's resources of a node, said rather than inferred.

    The autoscaler starts the first node of a group by them. From the pod's limits it would read no
    NeuronCores, and the operator would round a fraction of a CPU up.
    """
    offered = size.offers()
    offered.pop("object_store_memory", None)
    offered["CPU"] = float(size.ray_cpus)
    return {name: _amount(amount) for name, amount in (offered | group.resources).items()}


def group_start_params(size: PodSize) -> dict[str, str]:
    """``ray start``'s options of a worker that are not resources."""
    return _object_store(size)


def head_start_params(size: PodSize, head: Head) -> dict[str, str]:
    """``ray start``'s options of the head: its resources, ``num-cpus: "0"`` in most clusters."""
    params = {"num-cpus": str(size.ray_cpus)}
    if size.gpus:
        params["num-gpus"] = str(size.gpus)
    if size.ray_memory_bytes:
        params["memory"] = str(size.ray_memory_bytes)
    custom: Mapping[str, float] = head.resources
    if size.neuron_cores:
        custom = {"neuron_cores": float(size.neuron_cores), **custom}
    if custom:
        # Quoted for the shell in which the operator runs ``ray start``
        params["resources"] = f"'{json.dumps(dict(custom))}'"
    return params | _object_store(size)


def _object_store(size: PodSize) -> dict[str, str]:
    if not size.object_store_bytes:
        return {}
    return {"object-store-memory": str(size.object_store_bytes)}


def _amount(amount: float) -> str:
    return str(int(amount)) if amount == int(amount) else repr(amount)
