"""Waiting for a cluster: watching it, saying meanwhile why it is not ready."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from eksml.backends.kube import pods
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object, Ref
from eksml.backends.kube.refusals import NotServed, Refused
from eksml.backends.kube.watch import Live, Selection
from eksml.backends.progress import Progress
from eksml.backends.why import Reason, State, why
from eksml.backends.why.reason import at, condition
from eksml.cluster.vocabulary import RAY_API
from eksml.errors import ClusterError, ClusterStartFailed

_TICK_S = 1.0
"""The seconds on the progress line go on though nothing changes."""
_LAST_LINES = 15
_MOST_LOGS = 3


def selections(ref: Ref) -> list[Selection]:
    """All that tells why a RayCluster is not ready."""
    namespace = ref.namespace
    return [
        Selection(RAY_API, "RayCluster", namespace, fields=f"metadata.name={ref.name}"),
        Selection("v1", "Pod", namespace, labels=f"ray.io/cluster={ref.name}"),
        Selection("v1", "Event", namespace, optional=True),
        Selection("kueue.x-k8s.io/v1beta2", "Workload", namespace, optional=True),
        Selection("karpenter.sh/v1", "NodeClaim", None, optional=True),
        Selection("karpenter.sh/v1", "NodePool", None, optional=True),
    ]


def wait_ready(client: KubeClient, ref: Ref, *, timeout_s: float, line: Progress) -> Object:
    """Until all pods of a RayCluster are ready, for ``timeout_s`` at most; returns it.

    Raises:
        ClusterStartFailed: they are not; with the reason, and the last words of what crashed.
    """
    began = time.monotonic()
    with Live(client, selections(ref)) as live:
        while True:
            waited_s = time.monotonic() - began
            state = _state(ref, {kind: live.objects(kind) for kind in _KINDS}, waited_s)
            if state.cluster is not None and is_ready(state.cluster):
                return state.cluster
            if waited_s > timeout_s:
                raise _late(client, ref, state, timeout_s)
            if state.cluster is None and _was_listed(live):
                raise ClusterStartFailed(f"{ref} was deleted while it started.")
            line.show(_progress(state))
            live.wait(min(_TICK_S, timeout_s - waited_s + 0.01))


def why_waiting(client: KubeClient, ref: Ref) -> Reason:
    """Why a RayCluster is not ready, read once.

    Raises:
        ClusterError: it cannot be read.
    """
    found: dict[str, list[Object]] = {}
    for chosen in selections(ref):
        try:
            listed = client.list(
                chosen.api_version,
                chosen.kind,
                chosen.namespace,
                labels=chosen.labels,
                fields=chosen.fields,
            )
        except (NotServed, Refused):
            if not chosen.optional:
                raise
        else:
            found[chosen.kind] = list(listed.items)
    state = _state(ref, found, 0)
    return why(_with_logs(client, state))


def is_ready(raycluster: Object) -> bool:
    """Whether the head and all wanted workers were ready at the operator's last look."""
    status = raycluster.get("status") or {}
    seen = status.get("observedGeneration", -1) >= raycluster["metadata"].get("generation", 0)
    enough = status.get("readyWorkerReplicas", 0) >= status.get("desiredWorkerReplicas", 0)
    return bool(seen and enough and condition(raycluster, "HeadPodReady").get("status") == "True")


_KINDS = ("RayCluster", "Pod", "Event", "Workload", "NodeClaim", "NodePool")


def _state(ref: Ref, found: Mapping[str, Sequence[Object]], waited_s: float) -> State:
    names = {ref.name, *(pod["metadata"]["name"] for pod in found.get("Pod", ()))}
    return State(
        cluster=next(iter(found.get("RayCluster", ())), None),
        pods=found.get("Pod", ()),
        events=[event for event in found.get("Event", ()) if _concerns(event, names)],
        workloads=[one for one in found.get("Workload", ()) if _belongs(one, ref)],
        claims=found.get("NodeClaim", ()),
        pools=found.get("NodePool", ()),
        waited_s=waited_s,
    )


def _concerns(event: Object, names: set[str]) -> bool:
    about: Mapping[str, Any] = event.get("involvedObject") or {}
    return about.get("kind") in ("NodeClaim", "NodePool") or str(about.get("name")) in names


def _belongs(workload: Object, ref: Ref) -> bool:
    owners = workload["metadata"].get("ownerReferences") or ()
    return any(owner["kind"] == ref.kind and owner["name"] == ref.name for owner in owners)


def _was_listed(live: Live) -> bool:
    return live.complete and not live.objects("RayCluster")


def _progress(state: State) -> str:
    wanted = 1 + (at(state.cluster, "status", "desiredWorkerReplicas") or 0)
    ready = sum(condition(pod, "Ready").get("status") == "True" for pod in state.pods)
    reason = why(state)
    counted = f"{ready} of {max(wanted, len(state.pods))} pods"
    return counted if reason.kind in ("ready", "starting") else f"{counted}. {reason.sentence}"


def _late(client: KubeClient, ref: Ref, state: State, timeout_s: float) -> ClusterStartFailed:
    state = _with_logs(client, state)
    said = "".join(
        f"\n{name} said:\n" + "\n".join(lines) for name, lines in sorted(state.logs.items())
    )
    return ClusterStartFailed(
        f"{ref} was not ready in {math.ceil(timeout_s)} s ({_progress(state).split('.')[0]}). "
        f"{why(state)}{said}"
    )


def _with_logs(client: KubeClient, state: State) -> State:
    """With the last lines of some of the pods that crashed, the head's first."""
    crashed = [
        pod for pod in state.pods if _restarts(pod) or at(pod, "status", "phase") == "Failed"
    ]
    crashed.sort(key=lambda pod: at(pod, "metadata", "labels", "ray.io/node-type") != "head")
    logs = {}
    for pod in crashed[:_MOST_LOGS]:
        with suppress(ClusterError):  # the reason is told without them
            text = pods.log(client, pod, lines=_LAST_LINES, previous=bool(_restarts(pod)))
            if text.strip():
                logs[pod["metadata"]["name"]] = text.strip().splitlines()
    return replace(state, logs=logs)


def _restarts(pod: Object) -> int:
    containers = at(pod, "status", "containerStatuses") or ()
    return sum(int(one.get("restartCount", 0)) for one in containers)
