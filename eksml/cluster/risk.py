"""What may go wrong although everything fits: reclaims, features that are off, slow starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eksml.cluster.catalogue import instance
from eksml.cluster.fit import Fit
from eksml.cluster.groups import HEAD_GROUP, WorkerGroup
from eksml.cluster.ray_objects import cluster_spec_of
from eksml.cluster.rules.quantity import amount
from eksml.cluster.spec import Cluster
from eksml.cluster.table import counted
from eksml.cluster.vocabulary import GPU, ROCKSDB_GATE
from eksml.cluster.workloads import RayServiceSpec

SPOT_NOTICE_S = 120
"""EC2's notice before it reclaims a spot instance."""
COLD_START = "6½ minutes, 2 of them the image"
"""Until a pod runs on a machine that is not there yet, with a GPU image of 10 GB from a registry
outside AWS."""


@dataclass(frozen=True)
class SpotRisk:
    """A group that EC2 may take away."""

    group: str
    pools: int
    """Capacity pools: instance types by zones. The more, the rarer all go at once."""
    told: str
    """What can be reclaimed, what is lost then, and what to do, in sentences."""


@dataclass(frozen=True)
class Gate:
    """A feature of the operator that is alpha: off unless the operator is installed with it."""

    name: str
    """The operator's name for it."""
    why: str
    """What needs it."""


def spot_risks(spec: Cluster, fit: Fit) -> tuple[SpotRisk, ...]:
    """One for each group on spot that has machines at its max."""
    machines = {one.group: one.machines.max for one in fit.groups}
    return tuple(
        _spot_risk(spec, group, machines.get(group.name, 0))
        for group in spec.groups
        if group.market == "spot" and group.nodes[1]
    )


def gates(objects: Iterable[Mapping[str, Any]]) -> tuple[Gate, ...]:
    """The operator's feature gates that these objects need."""
    return tuple(sorted({gate for item in objects for gate in _gates(item)}, key=lambda g: g.name))


def warnings(spec: Cluster, fit: Fit) -> tuple[str, ...]:
    """What a careful colleague would say before this is started, one sentence or two each."""
    return (
        *_head_warnings(spec),
        *(found for group in spec.groups for found in _group_warnings(spec, group)),
        *_namespace_warnings(spec, fit),
        *_pool_warnings(spec, fit),
        *_start_warnings(spec),
    )


def upgrade_warnings(workload: object) -> Iterator[str]:
    """How many machines more a service takes while it changes."""
    if not isinstance(workload, RayServiceSpec) or workload.upgrade == "none":
        return
    surge = 100 if workload.upgrade == "new-cluster" else workload.surge
    yield (
        f"While the service changes, up to {surge} % more machines run, cost and count against "
        "the quotas."
    )


def _spot_risk(spec: Cluster, group: WorkerGroup, machines: int) -> SpotRisk:
    zones = len(group.zones) or (1 if group.efa else 3)
    pools = len(group.instances or ("any",)) * zones
    where = counted(zones, "zone")
    if not group.zones and not group.efa:
        where = "the region's zones (3 assumed)"
    types = counted(len(group.instances), "type") if group.instances else "any type"
    said = [
        f"{counted(machines, 'machine')} of {types} in {where}: {counted(pools, 'capacity pool')}."
    ]
    if group.efa or group.hosts > 1:
        said.append("One reclaim stops the work of the whole group until the machine is back.")
    else:
        said.append("A reclaim takes single machines.")
    said.append(
        f"Notice {SPOT_NOTICE_S} s, of which Ray drains {min(spec.notice_s, SPOT_NOTICE_S)} s; "
        "lost is what came after the last checkpoint or commit."
    )
    if pools < 3 and not group.efa:
        said.append("More instance types or zones make it rarer.")
    return SpotRisk(group.name, pools, " ".join(said))


def _gates(item: Mapping[str, Any]) -> Iterator[Gate]:
    if item.get("kind") == "RayCronJob":
        yield Gate("RayCronJob", "the kind RayCronJob")
    cluster = cluster_spec_of(item) or {}
    if (cluster.get("gcsFaultToleranceOptions") or {}).get("backend") == "rocksdb":
        yield Gate(ROCKSDB_GATE, "the head's state on a volume (rocksdb)")
    for field, name, why in (
        ("networkPolicy", "RayClusterNetworkPolicy", "the operator's own network policy"),
        ("tlsOptions", "RayClusterMTLS", "TLS between the nodes"),
        ("historyServerOptions", "RayClusterHistoryServer", "the history server"),
    ):
        if cluster.get(field):
            yield Gate(name, why)


def _head_warnings(spec: Cluster) -> Iterator[str]:
    if spec.state is None:
        yield (
            "The head's state is not kept: if the head dies, so do all running jobs and "
            f"deployments. Say head_state, or install the operator with {ROCKSDB_GATE}."
        )


def _group_warnings(spec: Cluster, group: WorkerGroup) -> Iterator[str]:
    name = f"Group {group.name!r}"
    if group.market == "reserved":
        yield f"{name}: a reservation is paid for whether its machines run or not."
    if group.efa and group.market == "spot":
        yield (
            f"{name}: EFA wants all machines in one zone, where spot capacity for "
            f"{group.nodes[1]} of them at once is rare. Consider a capacity block."
        )
    if group.efa and not group.zones:
        yield (
            f"{name}: the zone is that of the first machine; if it lacks capacity for the rest, "
            "the group waits. Name the zone where you have capacity."
        )
    if group.efa and group.nodes[1] == 1:
        yield f"{name}: EFA has no use on a single node. Leave it out, or raise nodes."


def _namespace_warnings(spec: Cluster, fit: Fit) -> Iterator[str]:
    """Whether the namespace's quota holds the cluster at its max; its start is checked before."""
    for key, limit in (spec.quota.limits if spec.quota else {}).items():
        resource = key.removeprefix("requests.")
        if resource.startswith(("limits.", "count/")):
            continue
        asked = sum(
            one.pods.max * (1 if resource == "pods" else one.pod.get(resource, 0))
            for one in fit.groups
        )
        if asked > float(amount(limit) or 0):
            yield f"The namespace's quota of {limit} {key} keeps the cluster from its largest."


def _pool_warnings(spec: Cluster, fit: Fit) -> Iterator[str]:
    """Whether each group's node pool may start enough machines for its max."""
    for resource, limit in (spec.karpenter.limits if spec.karpenter else {}).items():
        for group in fit.groups:
            nominal = _nominal(resource, group.instance) if group.fits else 0
            if nominal * group.machines.max > float(amount(limit) or 0):
                yield (
                    f"Group {group.group!r}: karpenter.limits of {limit} {resource} keeps it from "
                    f"its largest, {group.machines.max} × {group.instance}."
                )


def _nominal(resource: str, name: str) -> int:
    """What Karpenter counts of one machine against a pool's limit."""
    machine = instance(name)
    counts = {"cpu": machine.vcpus, "memory": machine.memory_bytes}
    if machine.gpu:
        counts[GPU] = machine.gpu.count
    return counts.get(resource, 0)


def _start_warnings(spec: Cluster) -> Iterator[str]:
    growing = [group.name for group in spec.groups if group.nodes[1] > group.initial_nodes]
    images = {node.image or spec.image for node in (spec.head, *spec.groups)}
    outside = [image for image in images if image is None or ".dkr.ecr." not in image]
    if outside:
        yield (
            f"A pod on a new machine starts after about {COLD_START}: "
            f"{outside[0] or 'the default image'} comes from outside AWS. Mirror it to ECR."
        )
    if growing and HEAD_GROUP not in growing and spec.queue and spec.queue.kind == "kueue":
        yield (
            "Kueue admits the autoscaler's new pods only from version 0.16 on; "
            f"{', '.join(growing)} would not grow under an older one."
        )
