"""The nodes that Karpenter may start for a cluster: a NodePool and an EC2NodeClass per group."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.cluster.catalogue import Instance, instance
from eksml.cluster.groups import HEAD_GROUP, WorkerGroup
from eksml.cluster.image import arch_of
from eksml.cluster.placement import (
    EKS_NODEGROUP,
    INSTANCE_TYPE,
    KARPENTER_CAPACITY,
    KARPENTER_NODEPOOL,
    ZONE,
    Market,
)
from eksml.cluster.render.limits import protects
from eksml.cluster.render.names import cluster_wide, node_pool
from eksml.cluster.render.scheduling import ARCH, accelerator_taints
from eksml.cluster.vocabulary import GPU, NEURON_DEVICES

if TYPE_CHECKING:
    from eksml.cluster.options import Karpenter
    from eksml.cluster.spec import Cluster

_HEADROOM = 2
"""A pool may start twice the machines of its group: a new one before the old one is gone (a
reclaim, an upgrade in steps) is normal, more than that is a runaway."""
_ANY_CPU_NODE = (
    ("karpenter.k8s.aws/instance-category", "In", ["c", "m", "r"]),
    ("karpenter.k8s.aws/instance-generation", "Gt", ["5"]),
)
"""Where no instance is named: machines of the general families, sixth generation or later."""
_FAST_PULL = """\
apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  featureGates:
    FastImagePull: true
"""
"""Layers are fetched and unpacked in parallel (SOCI). It pays for images of several GB, and only
on a volume that takes more than 600 MiB/s; AWS calls it experimental."""


def karpenter(spec: Cluster) -> list[dict[str, Any]]:
    """An EC2NodeClass and a NodePool for the head and for each group; none without ``karpenter``.

    A pool of its own for each group keeps pools disjoint, as Karpenter asks, and lets one group's
    limits, market and protection change without the others'. A group whose ``node_selector`` names
    a NodePool or node group brings its nodes along and gets none.

    - Karpenter attaches every EFA interface by itself to nodes of pods that ask for
      ``vpc.amazonaws.com/efa``; the security group must let all its own traffic in and out.
    - Nodes go when they are empty, and only then: Ray's pods cannot be moved.
    - Nodes of protected groups neither expire nor drift while they are busy. No
      ``terminationGracePeriod`` is set: it would make drift drain them all the same.
    """
    if spec.karpenter is None:
        return []
    pools = [_head(spec), *(_group(spec, group) for group in spec.groups if _needs_pool(group))]
    return [
        *(_node_class(spec, spec.karpenter, pool) for pool in pools),
        *(_node_pool(spec, spec.karpenter, pool) for pool in pools),
    ]


@dataclass(frozen=True)
class _Pool:
    """What a head and a worker group have in common as far as nodes go."""

    group: str
    types: tuple[Instance, ...]
    arch: str
    machines: int
    protected: bool
    market: Market = "on-demand"
    zones: tuple[str, ...] = ()
    reservation: str | None = None

    @property
    def accelerated(self) -> bool:
        return any(known.accelerator for known in self.types)


def _head(spec: Cluster) -> _Pool:
    return _Pool(
        HEAD_GROUP,
        _known(spec.head.instances),
        arch_of(spec.head),
        machines=1,
        protected=spec.protected,
    )


def _group(spec: Cluster, group: WorkerGroup) -> _Pool:
    return _Pool(
        group.name,
        _known(group.instances),
        arch_of(group),
        machines=math.ceil(group.nodes[1] / group.pods_per_node),
        protected=protects(spec, group.protected),
        market=group.market,
        zones=group.zones,
        reservation=group.capacity_reservation,
    )


def _needs_pool(group: WorkerGroup) -> bool:
    return not {KARPENTER_NODEPOOL, EKS_NODEGROUP} & group.node_selector.keys()


def _known(names: tuple[str, ...]) -> tuple[Instance, ...]:
    return tuple(instance(name) for name in names)


def _node_pool(spec: Cluster, karpenter: Karpenter, pool: _Pool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "template": {"spec": _template(spec, pool)},
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            # Long enough for a restarted pod to find its machine again, image and all.
            "consolidateAfter": "2m",
            "budgets": [
                {"nodes": "100%", "reasons": ["Empty"]},
                {"nodes": "0" if pool.protected else "10%", "reasons": ["Drifted"]},
            ],
        },
    }
    if limits := _limits(karpenter, pool):
        made["limits"] = limits
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": cluster_wide(spec, node_pool(spec, pool.group)),
        "spec": made,
    }


def _template(spec: Cluster, pool: _Pool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "nodeClassRef": {
            "group": "karpenter.k8s.aws",
            "kind": "EC2NodeClass",
            "name": node_pool(spec, pool.group),
        },
        "requirements": [
            {"key": key, "operator": operator, "values": values}
            for key, operator, values in _requirements(pool)
        ],
        "expireAfter": "Never" if pool.protected else "720h",
    }
    if taints := _taints(pool):
        made["taints"] = taints
    return made


def _requirements(pool: _Pool) -> list[tuple[str, str, list[str]]]:
    wanted: list[tuple[str, str, list[str]]] = [("kubernetes.io/os", "In", ["linux"])]
    if pool.types:
        wanted.append((INSTANCE_TYPE, "In", [known.name for known in pool.types]))
    else:
        wanted += [(ARCH, "In", [pool.arch]), *_ANY_CPU_NODE]
    wanted.append((KARPENTER_CAPACITY, "In", [pool.market]))
    if pool.zones:
        wanted.append((ZONE, "In", list(pool.zones)))
    return wanted


def _taints(pool: _Pool) -> list[dict[str, str]]:
    return [{"key": key, "effect": "NoSchedule"} for key in accelerator_taints(pool.types)]


def _limits(karpenter: Karpenter, pool: _Pool) -> dict[str, str]:
    """What the pool may start. Nothing for a pool of any node, unless the user says it."""
    if karpenter.limits:
        return dict(sorted(karpenter.limits.items()))
    most = {
        "cpu": max((known.vcpus for known in pool.types), default=0),
        GPU: max((known.gpu.count for known in pool.types if known.gpu), default=0),
        NEURON_DEVICES: max(
            (known.neuron.devices for known in pool.types if known.neuron), default=0
        ),
    }
    return {name: str(_HEADROOM * pool.machines * count) for name, count in most.items() if count}


def _node_class(spec: Cluster, karpenter: Karpenter, pool: _Pool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "role": karpenter.node_role,
        "amiSelectorTerms": [{"alias": karpenter.ami}],
        "subnetSelectorTerms": [{"tags": dict(sorted(karpenter.subnets.items()))}],
        "securityGroupSelectorTerms": [{"tags": dict(sorted(karpenter.security_groups.items()))}],
        "blockDeviceMappings": _disks(karpenter.ami, pool.accelerated),
        "tags": {"ray.io/cluster": spec.name, "ray.io/group": pool.group},
    }
    if any(known.nvme_bytes for known in pool.types):
        # One RAID 0 of the local disks holds images, logs and every emptyDir, scratch included.
        made["instanceStorePolicy"] = "RAID0"
    if pool.reservation:
        made["capacityReservationSelectorTerms"] = [{"id": pool.reservation}]
    if pool.accelerated and karpenter.ami.startswith("al2023@"):
        made["userData"] = _FAST_PULL
    return {
        "apiVersion": "karpenter.k8s.aws/v1",
        "kind": "EC2NodeClass",
        "metadata": cluster_wide(spec, node_pool(spec, pool.group)),
        "spec": made,
    }


def _disks(ami: str, accelerated: bool) -> list[dict[str, Any]]:
    """The root volume: EKS's 20 GiB do not hold an image with CUDA, let alone two."""
    pods = {"volumeSize": "200Gi", "volumeType": "gp3", "encrypted": True}
    if accelerated:
        pods |= {"iops": 16000, "throughput": 1000}
    if not ami.startswith("bottlerocket@"):
        return [{"deviceName": "/dev/xvda", "ebs": pods}]
    system = {"volumeSize": "4Gi", "volumeType": "gp3", "encrypted": True}
    return [
        {"deviceName": "/dev/xvda", "ebs": system},
        {"deviceName": "/dev/xvdb", "ebs": pods},
    ]
