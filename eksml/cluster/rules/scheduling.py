"""Rule 16: which nodes a pod may lie on."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.pod import Pod, doubled
from eksml.cluster.syntax import (
    LABEL_KEY,
    LABEL_VALUE,
    is_label_key,
    is_label_value,
    nearest,
)
from eksml.cluster.vocabulary import ACCELERATOR_TAINTS
from eksml.errors import Problem

_KARPENTER = "karpenter"
_NODE_GROUP = ("eks.amazonaws.com/capacityType", "eks.amazonaws.com/nodegroup")
_VALUES = {
    "karpenter.sh/capacity-type": ("spot", "on-demand", "reserved"),
    "eks.amazonaws.com/capacityType": ("SPOT", "ON_DEMAND", "CAPACITY_BLOCK"),
    "kubernetes.io/arch": ("amd64", "arm64"),
    "kubernetes.io/os": ("linux", "windows"),
}
_INSTANCE_FACTS = (
    *(
        "category",
        "family",
        "generation",
        "size",
        "cpu",
        "cpu-manufacturer",
        "memory",
        "hypervisor",
    ),
    *("gpu-name", "gpu-manufacturer", "gpu-count", "gpu-memory", "local-nvme", "tenancy"),
    *("accelerator-name", "accelerator-manufacturer", "accelerator-count", "capability-flex"),
    *("network-bandwidth", "ebs-bandwidth", "encryption-in-transit-supported"),
)
WELL_KNOWN = (
    *_VALUES,
    "kubernetes.io/hostname",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.k8s.aws/zone-id",
    "karpenter.sh/nodepool",
    "karpenter.k8s.aws/ec2nodeclass",
    "karpenter.k8s.aws/capacity-reservation-id",
    "karpenter.k8s.aws/capacity-reservation-type",
    *(f"karpenter.k8s.aws/instance-{fact}" for fact in _INSTANCE_FACTS),
    "eks.amazonaws.com/nodegroup",
    "eks.amazonaws.com/nodegroup-image",
)
"""Labels that nodes of EKS have without anybody's doing: what a selector may ask for."""


@rule(16, "pod: node labels")
def node_labels(pod: Pod) -> Iterator[Problem]:
    """Rule 16: pods select nodes by labels that nodes have; else they stay Pending for ever."""
    for key, value in pod.spec["nodeSelector"].entries().items():
        yield from _label(key, value, [value])
    required, preferred = _node_terms(pod)
    for term in (*required.items(), *preferred):
        for entry in term["matchExpressions"].items():
            if entry["key"].text:
                yield from _label(entry["key"].text, entry["key"], entry["values"].items())
            yield from _operator(entry)
    if isinstance(required.value, list) and not required.value:
        yield required.problem("holds no term, so that no node matches.")


@rule(16, "pod: one provisioner")
def one_provisioner(pod: Pod) -> Iterator[Problem]:
    """Rule 16: a node is Karpenter's or a managed node group's, and has the labels of one."""
    selector, (required, _) = pod.spec["nodeSelector"], _node_terms(pod)
    chosen = set(selector.entries())
    # Of several terms one is enough: only if each asks for both is there no such node.
    ways = [chosen | _wanted(term) for term in required.items()]
    mixed = [found for way in ways or [chosen] if (found := _mixed(way))]
    if mixed and len(mixed) == len(ways or [chosen]):
        yield (required if ways else selector).problem(
            f"asks for {' and '.join(mixed[0])}: Karpenter's nodes and those of managed node "
            "groups don't share labels.",
            "Keep one.",
        )


def _node_terms(pod: Pod) -> tuple[Field, list[Field]]:
    affinity = pod.spec["affinity"]["nodeAffinity"]
    required = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    preferred = affinity["preferredDuringSchedulingIgnoredDuringExecution"].items()
    return required, [entry["preference"] for entry in preferred]


def _wanted(term: Field) -> set[str]:
    """The labels that a node must have to satisfy the term."""
    asked = term["matchExpressions"].items()
    return {entry["key"].text for entry in asked if entry["operator"].text in ("In", "Exists")}


def _mixed(keys: set[str]) -> tuple[str, str] | None:
    """A label of Karpenter's and one of a managed node group's, if both are among ``keys``."""
    karpenter = sorted(key for key in keys if key.startswith(_KARPENTER))
    group = sorted(key for key in keys if key.startswith(_NODE_GROUP))
    return (karpenter[0], group[0]) if karpenter and group else None


def _label(key: str, at: Field, values: list[Field]) -> Iterator[Problem]:
    if not is_label_key(key):
        yield at.problem(f"{key!r:.80} is not the key of a label.", LABEL_KEY)
    elif key not in WELL_KNOWN:
        remedy = nearest(key, WELL_KNOWN, "Select by instance type, zone or node pool.")
        yield at.problem(f"{key!r:.80} is not a label that nodes have by themselves.", remedy)
    for value in values:
        if not is_label_value(value.text):
            yield value.problem(f"{value.shown} is not the value of a label.", LABEL_VALUE)
        elif (known := _VALUES.get(key)) and value.text not in known:
            remedy = nearest(value.text, known, f"One of {', '.join(known)}.")
            yield value.problem(f"{value.shown} is never the value of {key}.", remedy)


def _operator(entry: Field) -> Iterator[Problem]:
    operator, count = entry["operator"].text, len(entry["values"].items())
    if operator in ("In", "NotIn") and count == 0:
        yield entry["values"].problem(f"is empty, and {operator} needs a value.")
    if operator in ("Exists", "DoesNotExist") and count:
        yield entry["values"].problem(f"has no effect with {operator}.", "Leave it out.")
    if operator in ("Gt", "Lt") and count != 1:
        yield entry["values"].problem(f"has {count} values, and {operator} compares with one.")


@rule(16, "pod: tolerations")
def tolerations(pod: Pod) -> Iterator[Problem]:
    """Rule 16: a toleration says what it means, and device nodes' taints have no value."""
    for entry in pod.spec["tolerations"].items():
        key, operator, value = entry["key"], entry["operator"].text or "Equal", entry["value"]
        if operator == "Exists" and value.filled:
            yield value.problem("has no effect with operator Exists.", "Leave it out.")
        if operator == "Equal" and not key.text:
            yield key.problem("is missing.", "Write the taint's key, or operator: Exists.")
        if key.text and not is_label_key(key.text):
            yield key.problem(f"{key.shown} is not the key of a taint.", LABEL_KEY)
        if not is_label_value(value.text):
            yield value.problem(f"{value.shown} is not the value of a taint.", LABEL_VALUE)
        elif key.text in ACCELERATOR_TAINTS and operator == "Equal" and value.filled:
            yield value.problem(
                f"{value.shown} does not tolerate {key.text}, a taint without a value.",
                "Write operator: Exists and no value.",
            )
        seconds = entry["tolerationSeconds"]
        if seconds.given and entry["effect"].text != "NoExecute":
            yield seconds.problem("is only for effect: NoExecute.", "Leave it out.")


@rule(16, "pod: spread")
def spread(pod: Pod) -> Iterator[Problem]:
    """Rule 16: pods spread over labels that nodes have, each in one way."""
    entries = pod.spec["topologySpreadConstraints"].items()
    keys = [(entry["topologyKey"].text, entry["whenUnsatisfiable"].text) for entry in entries]
    yield from doubled(entries, keys, "key")
    for entry in entries:
        if entry["minDomains"].given and entry["whenUnsatisfiable"].text != "DoNotSchedule":
            yield entry["minDomains"].problem("needs whenUnsatisfiable: DoNotSchedule.")
    affinity = pod.spec["affinity"]
    terms = []
    for kind in ("podAffinity", "podAntiAffinity"):
        terms += affinity[kind]["requiredDuringSchedulingIgnoredDuringExecution"].items()
        preferred = affinity[kind]["preferredDuringSchedulingIgnoredDuringExecution"].items()
        terms += [entry["podAffinityTerm"] for entry in preferred]
        yield from _weights(preferred)
    node = affinity["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].items()
    yield from _weights(node)
    for field in (entry["topologyKey"] for entry in (*entries, *terms)):
        if field.given and field.text not in WELL_KNOWN:
            remedy = nearest(field.text, WELL_KNOWN, "Write topology.kubernetes.io/zone.")
            yield field.problem(f"{field.shown} is not a label that nodes have.", remedy)


def _weights(preferred: list[Field]) -> Iterator[Problem]:
    for entry in preferred:
        weight = entry["weight"].whole
        if weight is not None and not 1 <= weight <= 100:
            yield entry["weight"].problem(f"{weight} is not between 1 and 100.")


RULES = (node_labels, one_provisioner, tolerations, spread)
