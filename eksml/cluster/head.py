"""The head node."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from eksml.cluster.groups import HEAD_GROUP, NODE_GROUP_LABEL, Node
from eksml.cluster.names import AtLeastOne, Count
from eksml.cluster.quantity import Bytes

LOCAL_CPUS = 2


class Head(Node):
    """The node that runs Ray's control plane, and drivers of jobs. On EKS always on demand."""

    cpus: Count | None = None
    """CPUs for jobs' drivers and tasks. 0 keeps tasks away from the head. None: 2 on the local
    backend, 0 on EKS."""
    gpus: Count | None = None
    """GPUs. None: 0."""
    neuron_cores: Count | None = None
    """NeuronCores. None: 0."""
    dashboard_port: Annotated[int, Field(strict=True, ge=1024, le=65535)] | None = None
    """Port of the dashboard and of the Jobs API on this machine. None: a free one."""
    pod_cpus: AtLeastOne | None = None
    """CPUs of the head's pod on EKS, whatever Ray gives out of them. None: those of the instance;
    4 where none is named."""
    pod_memory: Bytes | None = None
    """Memory of the head's pod on EKS. None: that of the instance; 16Gi where none is named."""

    def offers(self) -> dict[str, float]:
        """Ray's resources of the head on the local backend, as Ray names them."""
        offered: dict[str, float] = {
            "CPU": LOCAL_CPUS if self.cpus is None else self.cpus,
            "GPU": self.gpus or 0,
            "neuron_cores": self.neuron_cores or 0,
            "memory": self.memory or 0,
            **self.resources,
        }
        return {name: float(amount) for name, amount in offered.items() if amount}

    def node_labels(self) -> dict[str, str]:
        """All labels of the head, Ray's own included."""
        return {**self.labels, NODE_GROUP_LABEL: HEAD_GROUP}
