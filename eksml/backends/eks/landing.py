"""Can the pods of a specification land on the nodes that a cluster can start? Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.backends.eks.nodepools import from_node_pool
from eksml.backends.eks.source import NodeSource, Requirement, Taint, Values
from eksml.backends.why.reason import at
from eksml.cluster.catalogue import instances
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.placement import (
    EKS_CAPACITY,
    EKS_NODEGROUP,
    INSTANCE_TYPE,
    KARPENTER_CAPACITY,
    KARPENTER_NODEPOOL,
    ZONE,
)
from eksml.cluster.vocabulary import GPU, NEURON_DEVICES

if TYPE_CHECKING:
    from eksml.cluster import Cluster

_NOUNS = {
    INSTANCE_TYPE: "instance type",
    ZONE: "zone",
    EKS_CAPACITY: "market",
    KARPENTER_CAPACITY: "market",
    EKS_NODEGROUP: "node group",
    KARPENTER_NODEPOOL: "NodePool",
}
_KEEPS_OFF = ("NoSchedule", "NoExecute")


@dataclass(frozen=True)
class Landing:
    """Where the pods of one group can land."""

    group: str
    """The worker group; ``headgroup`` for the head."""
    machines: int
    """How many machines the group may want at most."""
    on: tuple[str, ...]
    """The node groups and NodePools that take its pods."""
    problem: str = ""
    """Why none does, as a sentence; empty if one does."""
    warning: str = ""
    """What is doubtful though one does; a sentence, or empty."""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the pods can land."""
        return not self.problem

    def __str__(self) -> str:
        told = self.problem or f"lands on {', '.join(self.on)}."
        return " ".join(filter(None, (f"{self.group}: {told}", self.warning, self.remedy)))


def landings(spec: Cluster, sources: Iterable[NodeSource]) -> list[Landing]:
    """Where the head and each group of ``spec`` can land, on ``sources`` and on the NodePools
    that ``spec`` itself brings.

    The rendered pod templates are what is judged: their selectors, affinities and tolerations.
    Whether a pod is small enough for its machine is not asked here (``plan`` does).

    Raises:
        InvalidSpec: the specification cannot be rendered.
    """
    from eksml.cluster.render import objects

    rendered = objects(spec)
    own = [from_node_pool(one) for one in rendered if one["kind"] == "NodePool"]
    replaced = {source.name for source in own}
    there = [source for source in sources if source.name not in replaced]
    manifest = next(one for one in rendered if one["kind"] == "RayCluster")
    wanted = {group.name: math.ceil(group.nodes[1] / group.pods_per_node) for group in spec.groups}
    templates = [(HEAD_GROUP, manifest["spec"]["headGroupSpec"])]
    templates += [(one["groupName"], one) for one in manifest["spec"].get("workerGroupSpecs") or ()]
    return [
        landing(name, group["template"]["spec"], wanted.get(name, 1), [*own, *there])
        for name, group in templates
    ]


def landing(
    group: str, pod: Mapping[str, Any], machines: int, sources: Sequence[NodeSource]
) -> Landing:
    """Where the pods with that ``spec`` can land."""
    judged = [(source, misfits(pod, source)) for source in sources]
    fitting = [source for source, wrong in judged if not wrong]
    on = tuple(str(source) for source in fitting)
    if not on:
        return Landing(group, machines, (), _nowhere(judged), "", _remedy(pod))
    if ill := [source for source in fitting if source.ill]:
        told = "; ".join(f"{source}: {source.ill}" for source in ill)
        if len(ill) == len(fitting):
            return Landing(group, machines, on, "", f"But it is not well: {told}.")
    room = [_room(pod, source) for source in fitting]
    if None not in room and (most := sum(one or 0 for one in room)) < machines:
        warning = f"But they have room for {most} of its {machines} machines at most."
        return Landing(group, machines, on, "", warning, "Raise maxSize or the pool's limits.")
    return Landing(group, machines, on)


def misfits(pod: Mapping[str, Any], source: NodeSource) -> list[str]:
    """Why the pod cannot land there, in the way that is nearest to success; empty if it can."""
    tolerated = pod.get("tolerations") or ()
    tainted = [
        f"has the taint {taint}, which is not tolerated"
        for taint in source.taints
        if taint.effect in _KEEPS_OFF and not any(_tolerates(one, taint) for one in tolerated)
    ]
    ways = [_wrong(term, source) for term in _terms(pod)]
    return [*min(ways, key=len), *tainted]


def _wrong(term: Sequence[Requirement], source: NodeSource) -> list[str]:
    """What of one way to be scheduled fails on the best machine of the source."""
    types = _types(term, source)
    if not types:
        named = ", ".join(_named(term))
        offered = ", ".join(source.instances or ()) or "other instance types"
        return [f"offers {offered}, not {named}"]
    return min(
        (
            [told for one in term if (told := _unmet(one, source.labels_with(instance)))]
            for instance in types
        ),
        key=len,
    )


def _types(term: Sequence[Requirement], source: NodeSource) -> Sequence[str | None]:
    """Instance types that the pod may name and the source starts; ``[None]``: any."""
    named = _named(term)
    if named:
        return [name for name in named if source.starts(name)]
    return source.instances or [None]


def _named(term: Sequence[Requirement]) -> list[str]:
    chosen = [one.values for one in term if one.key == INSTANCE_TYPE and one.operator == "In"]
    return [name for name in chosen[0] if all(name in other for other in chosen)] if chosen else []


def _unmet(wanted: Requirement, labels: Mapping[str, Values]) -> str:
    values = labels.get(wanted.key)
    if wanted.allows(values, labelled=wanted.key in labels):
        return ""
    noun = _NOUNS.get(wanted.key, wanted.key)
    asked = " or ".join(wanted.values) or "any"
    if wanted.operator == "NotIn":
        return f"has the {noun} {', '.join(sorted(values or ()))}, which is excluded"
    if wanted.key not in labels:
        return f"has no label {wanted.key}, {asked} is asked"
    return f"has the {noun} {', '.join(sorted(values or ()))}, not {asked}"


def _terms(pod: Mapping[str, Any]) -> Iterator[list[Requirement]]:
    """Each way in which the pod may be scheduled: all of a term's requirements must hold."""
    selected = [
        Requirement(key, "In", (str(value),))
        for key, value in (pod.get("nodeSelector") or {}).items()
    ]
    required = at(pod, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    terms = at(required, "nodeSelectorTerms") or [{}]
    for term in terms:
        expressions = [
            Requirement(one["key"], one["operator"], tuple(one.get("values") or ()))
            for one in term.get("matchExpressions") or ()
        ]
        yield [*selected, *expressions]


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key")
    if toleration.get("operator") == "Exists":
        return key in (None, "", taint.key)
    return key == taint.key and (toleration.get("value") or "") == taint.value


def _room(pod: Mapping[str, Any], source: NodeSource) -> int | None:
    """How many machines for such pods the source may start; None: as many as one likes."""
    if source.most is not None:
        return source.most
    types = {
        str(name)
        for term in _terms(pod)
        for name in _types(term, source)
        if name is not None and name in instances()
    }
    rooms = [
        int(limit // size)
        for name in types
        for resource, size in _sizes(name).items()
        if size and (limit := source.limits.get(resource)) is not None
    ]
    return min(rooms, default=None)


def _sizes(instance: str) -> dict[str, float]:
    known = instances()[instance]
    return {
        "cpu": known.vcpus,
        "memory": known.memory_bytes,
        GPU: known.gpu.count if known.gpu else 0,
        NEURON_DEVICES: known.neuron.devices if known.neuron else 0,
    }


def _nowhere(judged: Sequence[tuple[NodeSource, list[str]]]) -> str:
    """All sources with their first obstacle, the nearest to success first."""
    if not judged:
        return "there is no node group and no NodePool."
    nearest = sorted(judged, key=lambda one: len(one[1]))
    told = "; ".join(f"{source} {' and '.join(wrong)}" for source, wrong in nearest)
    return f"can land nowhere: {told}."


def _remedy(pod: Mapping[str, Any]) -> str:
    pool = at(pod, "nodeSelector", KARPENTER_NODEPOOL)
    if pool:
        return f"Apply the NodePool {pool}: `eksml render FILE --kind NodePool`."
    return "`eksml nodegroup FILE GROUP` shows the node group that would do."
