"""Which rule keeps a pod off every node, out of the scheduler's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from eksml.backends.why.reason import Cause, Kind, words
from eksml.cluster.vocabulary import EFA, GPU, NEURON_CORES, NEURON_DEVICES

_SCHEDULED_AT = re.compile(r"^\d+/\d+ nodes are available:\s*")
_AFTER = re.compile(r"[.,]?\s*(preemption:|no new claims to deallocate).*$", re.DOTALL)
_PART = re.compile(r"(\d+) (.+?)(?=, \d+ |$)")
_DEVICES = {
    GPU: "the NVIDIA device plugin",
    NEURON_DEVICES: "the Neuron device plugin",
    NEURON_CORES: "the Neuron device plugin",
    EFA: "the EFA device plugin",
}


@dataclass(frozen=True)
class _Rule:
    """One of the scheduler's filters, by the words in which it refuses a node."""

    pattern: re.Pattern[str]
    text: str
    remedy: str
    kind: Kind = "unschedulable"


def _rule(pattern: str, text: str, remedy: str, kind: Kind = "unschedulable") -> _Rule:
    return _Rule(re.compile(pattern), text, remedy, kind)


_RULES = (
    _rule(
        r'persistentvolumeclaim "(?P<what>[^"]+)" not found',
        "its volume claim {what} does not exist",
        "Create the claim in the cluster's namespace, or take the mount out.",
        "volume",
    ),
    _rule(
        r"unbound immediate PersistentVolumeClaims|bind PersistentVolume",
        "its volume claim is not bound to a volume",
        "`kubectl describe pvc` says why; is the CSI driver installed (`eksml doctor --cluster`)?",
        "volume",
    ),
    _rule(
        r"volume node affinity conflict",
        "its volume lies in another zone than the nodes that would fit",
        "Say zones= of the volume's zone for the group.",
        "volume",
    ),
    _rule(r"Insufficient (?P<what>[^\s,]+)", "no node has enough {what} left", ""),
    _rule(
        r"Too many pods",
        "the nodes that would fit hold all the pods that they may",
        "Use larger or more nodes.",
    ),
    _rule(
        r"topology spread constraints",
        "the topology spread would be broken on every node left",
        "Allow more zones, or take spread= out of the group.",
    ),
    _rule(
        r"anti-affinity",
        "another pod on each node left excludes it",
        "Add a node; one pod per node is the rule for whole-node groups.",
    ),
    _rule(
        r"free ports",
        "its host ports are taken on every node left",
        "Add a node, or take hostPort out of the pod fields.",
    ),
    _rule(
        r"node\(s\) were unschedulable",
        "the nodes that would fit are cordoned",
        "`kubectl uncordon` them, or wait for new ones.",
    ),
    _rule(
        r"untolerated taint(\(s\)| \{(?P<what>[^}]*)\})?",
        "it does not tolerate the taint {what} of the nodes that would fit",
        "Add the toleration to the group.",
    ),
    _rule(
        r"node affinity/selector|node selector",
        "no node has the labels that it selects (instance type, zone, market)",
        "Is there a node group or NodePool that offers them? `eksml plan` shows what is asked.",
    ),
)
"""From the rule that is nearest to success to the farthest: a node that lacks only a GPU says
more than one that the selector excludes anyway."""


def parts(message: str) -> Iterator[tuple[int, str]]:
    """``(number of nodes, refusal)`` for each refusal in a scheduler's message."""
    said = _AFTER.sub("", _SCHEDULED_AT.sub("", message.strip())).rstrip(". ")
    found = _PART.findall(said)
    if found:
        yield from ((int(count), refusal.strip()) for count, refusal in found)
    elif said:
        yield 0, said


def unschedulable(message: str) -> Cause:
    """The rule that keeps a pod off every node, with the scheduler's own words."""
    said = words(_AFTER.sub("", message.strip()))
    if said.startswith("no nodes available"):
        return Cause(
            "unschedulable",
            "cannot be scheduled, since the cluster has no nodes",
            "Add a node group or a NodePool; `eksml plan` shows what is asked.",
        )
    refusals = [refusal for _, refusal in parts(message)]
    for rule in _RULES:
        for refusal in refusals:
            if match := rule.pattern.search(refusal):
                return _because(rule, match, said)
    return Cause("unschedulable", f"cannot be scheduled: «{said}»")


def _because(rule: _Rule, match: re.Match[str], said: str) -> Cause:
    what = (match.groupdict().get("what") or "").removesuffix(": ").strip()
    text = re.sub(r"\s+", " ", rule.text.format(what=what))
    remedy = rule.remedy or _more_of(what)
    return Cause(rule.kind, f"cannot be scheduled, since {text}: «{said}»", remedy)


def _more_of(resource: str) -> str:
    plugin = _DEVICES.get(resource)
    if plugin is None:
        return "Ask less per pod, or let the group's nodes grow in number or size."
    return (
        f"If such nodes are up, does {plugin} run there (`eksml doctor --cluster`)? Else add them."
    )
