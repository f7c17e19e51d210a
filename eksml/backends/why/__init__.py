"""Why does it wait? One sentence with the cause, and what to do.

Pure: plain objects of the API in, a sentence out; the backend reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

from eksml.backends.why import admission, pods
from eksml.backends.why.reason import Cause, Kind, Object, Reason, State, at, name_of

__all__ = ["Kind", "Object", "Reason", "State", "why"]

_HARMLESS = ("starting", "queued")
_CONSEQUENCES = ("init", "unready")
"""A worker that waits for the head says less than whatever keeps the head."""


def why(state: State) -> Reason:
    """Why the cluster is not ready, in one sentence: the cause that comes before all others.

    From the outside in: the operator refuses it, it waits in a queue, the API server refuses its
    pods, a pod is kept. Of several pods the head comes first, and what is broken before what only
    takes time. A cluster of which nothing is wrong is ``starting`` or ``ready``.
    """
    return (
        admission.refused(state)
        or admission.suspended(state)
        or admission.no_pods(state)
        or _kept(state)
        or _counted(state)
    )


def _kept(state: State) -> Reason | None:
    kept = [(pod, cause) for pod in state.pods if (cause := pods.keeps(pod, state))]
    if not kept:
        return None
    pod, cause = min(kept, key=lambda found: _urgency(*found))
    same = [one for one, other in kept if other.kind == cause.kind and _group(one) == _group(pod)]
    return Reason(f"{_subject(pod, same)} {cause.text}.", cause.remedy, cause.kind)


def _urgency(pod: Object, cause: Cause) -> tuple[bool, bool, bool, str]:
    head = at(pod, "metadata", "labels", "ray.io/node-type") == "head"
    return cause.kind in _HARMLESS, cause.kind in _CONSEQUENCES, not head, name_of(pod)


def _subject(pod: Object, same: Sequence[Object]) -> str:
    name, group = name_of(pod), _group(pod)
    if group == "head":
        return f"The head's pod {name}"
    if not group:
        return f"Pod {name}"
    if len(same) > 1:
        return f"Pod {name}, one of {len(same)} of group {group} in this state,"
    return f"Pod {name} of group {group}"


def _group(pod: Object) -> str:
    labels = at(pod, "metadata", "labels") or {}
    return "head" if labels.get("ray.io/node-type") == "head" else labels.get("ray.io/group", "")


def _counted(state: State) -> Reason:
    """No pod is kept: are there as many as were asked for?"""
    if not state.pods:
        return Reason("The operator has made no pods yet.", "", "starting")
    desired = at(state.cluster, "status", "desiredWorkerReplicas") or 0
    workers = sum(_group(pod) not in ("", "head") for pod in state.pods)
    if workers < desired:
        return Reason(f"{workers} of {desired} workers are there so far.", "", "starting")
    return Reason(f"All {len(state.pods)} pods are ready.", "", "ready")
