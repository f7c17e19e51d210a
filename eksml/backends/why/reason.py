"""The one sentence that says why something waits, and what it is drawn from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Object = Mapping[str, Any]
"""An object of the API as plain data in camelCase, as ``kubectl get -o json`` shows it."""

Kind = Literal[
    "ready",
    "starting",
    "suspended",
    "queued",
    "refused",
    "gate-off",
    "operator",
    "quota",
    "forbidden",
    "capacity",
    "node",
    "unschedulable",
    "volume",
    "image",
    "config",
    "network",
    "init",
    "crash",
    "out-of-memory",
    "evicted",
    "unready",
]
"""What class of cause it is. ``ready`` and ``starting`` are no causes: nothing is wrong."""


@dataclass(frozen=True)
class Reason:
    """Why it waits."""

    sentence: str
    """One sentence: the cause, on which object, in the words of whoever refused."""
    remedy: str
    """What to do; empty if there is nothing to do but wait."""
    kind: Kind

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}".rstrip()


@dataclass(frozen=True)
class State:
    """What was read about one cluster. Whatever is not known is left empty."""

    cluster: Object | None = None
    """The RayCluster."""
    owner: Object | None = None
    """The RayJob or RayService that the cluster belongs to, if any."""
    pods: Sequence[Object] = ()
    """Its pods: head, workers, submitter."""
    events: Sequence[Object] = ()
    """Core ``v1`` events about any of these objects."""
    workloads: Sequence[Object] = ()
    """Kueue's Workloads of the cluster or its owner."""
    claims: Sequence[Object] = ()
    """Karpenter's NodeClaims, everybody's."""
    pools: Sequence[Object] = ()
    """Karpenter's NodePools."""
    nodegroups: Sequence[Object] = ()
    """EKS' managed node groups, as ``describe_nodegroup`` gives them."""
    logs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Last log lines by pod name, of the container before if it was restarted."""
    waited_s: float = 0
    """Seconds since the cluster was asked for."""


@dataclass(frozen=True)
class Cause:
    """What keeps one pod, without saying which: a predicate such as «cannot pull its image»."""

    kind: Kind
    text: str
    remedy: str = ""


def at(thing: Any, *path: str) -> Any:
    """The value at ``path`` inside nested mappings; None where anything is missing."""
    for key in path:
        if not isinstance(thing, Mapping):
            return None
        thing = thing.get(key)
    return thing


def name_of(thing: Object | None) -> str:
    """The object's name."""
    return str(at(thing, "metadata", "name") or "")


def condition(thing: Object | None, kind: str) -> Object:
    """The status condition of that type; empty if it is not there."""
    for one in at(thing, "status", "conditions") or ():
        if one.get("type") == kind:
            found: Object = one
            return found
    return {}


def about(events: Iterable[Object], kind: str, name: str) -> Iterator[Object]:
    """The events about one object, latest first."""
    mine = [
        event
        for event in events
        if at(event, "involvedObject", "kind") == kind
        and at(event, "involvedObject", "name") == name
    ]
    return iter(sorted(mine, key=_when, reverse=True))


def words(message: object, limit: int = 400) -> str:
    """A message as it may stand inside a sentence: one line, no full stop, not endless."""
    text = re.sub(r"\s+", " ", str(message or "")).strip().rstrip(".")
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def _when(event: Object) -> str:
    """ISO times of one API server sort as text."""
    stamps = (
        at(event, "series", "lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    )
    return next((str(stamp) for stamp in stamps if stamp), "")
