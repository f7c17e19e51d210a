"""Why the node that a pod waits for does not come: Karpenter's claims and pools, node groups."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eksml.backends.why import aws
from eksml.backends.why.reason import Cause, Object, State, about, at, condition, name_of, words

_NOMINATED = re.compile(r"nodeclaim/([-a-z0-9.]+)")
_POOL_LABEL = "karpenter.sh/nodepool"
_STEPS = (
    ("Launched", "is being asked of EC2"),
    ("Registered", "has started and has not joined the cluster yet"),
    ("Initialized", "has joined and does not offer its devices yet"),
)
_NO_ERRORS = ("", "AwaitingReconciliation", "Launched", "Registered", "Initialized")
_JOIN_LIMIT = "Karpenter gives up after 15 minutes; look at the instance's console log."


def no_node(pod: Object, state: State) -> Cause | None:
    """Why no node comes for an unschedulable pod; None if nobody says anything about that."""
    for cause in _claims(pod, state):
        return cause
    return _pools(pod, state) or _scale_up(pod, state) or _nodegroups(pod, state)


def _claims(pod: Object, state: State) -> Iterator[Cause]:
    """Failures first, then nodes on their way."""
    nominated = _nominations(pod, state)
    claims = [claim for claim in state.claims if _serves(claim, pod, nominated)]
    live = {name_of(claim) for claim in claims}
    for name in [*live, *(nominated - live)]:
        for event in about(state.events, "NodeClaim", name):
            if event.get("type") == "Warning" and (cause := aws.refused(_told(event))):
                yield cause
    coming = [cause for claim in claims if (cause := _claim(claim))]
    yield from (cause for cause in coming if cause.kind != "starting")
    yield from (cause for cause in coming if cause.kind == "starting")


def _claim(claim: Object) -> Cause | None:
    """What the first step of a claim that is not done says."""
    for step, text in _STEPS:
        found = condition(claim, step)
        if found.get("status") == "True":
            continue
        if cause := aws.refused(_told(found)):
            return cause
        what = f"the {_instance(claim)} node that Karpenter chose ({name_of(claim)})"
        if found.get("status") == "False" and found.get("reason") not in _NO_ERRORS:
            said = words(found.get("message") or found.get("reason"))
            remedy = f"`kubectl describe nodeclaim {name_of(claim)}` shows the whole story."
            return Cause("node", f"waits for {what}, which fails: «{said}»", remedy)
        remedy = _JOIN_LIMIT if step == "Registered" else ""
        return Cause("starting", f"waits for {what}, which {text}", remedy)
    return None


def _pools(pod: Object, state: State) -> Cause | None:
    """Karpenter's own verdict on the pod, or a pool that is not ready."""
    for event in about(state.events, "Pod", name_of(pod)):
        if event.get("reason") != "FailedScheduling" or not _is_karpenters(event):
            continue
        said = words(event.get("message"))
        if "exceed limits" in said:
            remedy = "Raise the NodePool's limits, or wait until other nodes are gone."
            return Cause("quota", f"waits for a node, and the NodePool is full: «{said}»", remedy)
        remedy = "Compare the group's instances, zones and market with the NodePools'."
        return Cause("unschedulable", f"fits no NodePool: «{said}»", remedy)
    for pool in state.pools:
        ready = condition(pool, "Ready")
        if ready.get("status") == "False" and _chosen_pool(pod) in (None, name_of(pool)):
            said = words(ready.get("message") or ready.get("reason"))
            text = f"waits for a node, and NodePool {name_of(pool)} is not ready: «{said}»"
            remedy = (
                "`kubectl describe ec2nodeclass` tells which subnet, group or image is missing."
            )
            return Cause("node", text, remedy)
    return None


def _scale_up(pod: Object, state: State) -> Cause | None:
    """What the cluster autoscaler says about the pod."""
    for event in about(state.events, "Pod", name_of(pod)):
        said = words(event.get("message"))
        if event.get("reason") == "TriggeredScaleUp":
            return Cause("starting", f"waits for a node that the autoscaler asked for: «{said}»")
        if event.get("reason") == "NotTriggerScaleUp":
            full = "max node group size reached" in said
            return Cause(
                "quota" if full else "unschedulable",
                f"gets no new node from the autoscaler: «{said}»",
                "Raise the node group's maxSize." if full else "Add a node group that it fits.",
            )
    return None


def _nodegroups(pod: Object, state: State) -> Cause | None:
    """Trouble that EKS reports on the managed node groups."""
    wanted = at(pod, "spec", "nodeSelector", "eks.amazonaws.com/nodegroup")
    for group in state.nodegroups:
        name = str(group.get("nodegroupName") or "")
        if wanted not in (None, name):
            continue
        for issue in at(group, "health", "issues") or ():
            said = f"{issue.get('code')}: {issue.get('message')}"
            if cause := aws.refused(said):
                return cause
            text = f"waits for a node, and node group {name} is unwell: «{words(said)}»"
            remedy = f"`aws eks describe-nodegroup --nodegroup-name {name}` shows its health."
            return Cause("node", text, remedy)
    return None


def _nominations(pod: Object, state: State) -> set[str]:
    """Claims that Karpenter wants to put the pod on."""
    return {
        name
        for event in about(state.events, "Pod", name_of(pod))
        if event.get("reason") == "Nominated"
        for name in _NOMINATED.findall(str(event.get("message") or ""))
    }


def _serves(claim: Object, pod: Object, nominated: set[str]) -> bool:
    """Whether the claim is for such a pod: named for it, else of its pool and with its devices."""
    if nominated:
        return name_of(claim) in nominated
    pool = at(claim, "metadata", "labels", _POOL_LABEL)
    if _chosen_pool(pod) not in (None, pool):
        return False
    offered = at(claim, "spec", "resources", "requests") or {}
    return _devices(pod) <= set(offered)


def _devices(pod: Object) -> set[str]:
    """Extended resources that the pod asks for."""
    return {
        resource
        for container in at(pod, "spec", "containers") or ()
        for resource in at(container, "resources", "limits") or {}
        if "/" in resource
    }


def _chosen_pool(pod: Object) -> str | None:
    pool: str | None = at(pod, "spec", "nodeSelector", _POOL_LABEL)
    return pool


def _instance(claim: Object) -> str:
    label = "node.kubernetes.io/instance-type"
    if chosen := at(claim, "metadata", "labels", label):
        return str(chosen)
    for requirement in at(claim, "spec", "requirements") or ():
        if requirement.get("key") == label and len(requirement.get("values") or ()) == 1:
            return str(requirement["values"][0])
    return "new"


def _is_karpenters(event: Object) -> bool:
    source = f"{at(event, 'source', 'component') or ''}{event.get('reportingComponent') or ''}"
    return "karpenter" in source or "nodepool" in str(event.get("message"))


def _told(thing: Object) -> str:
    return f"{thing.get('reason') or ''}: {thing.get('message') or ''}"
