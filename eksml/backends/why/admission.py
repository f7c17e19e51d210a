"""What the operator, the API server's admission and Kueue say before there is any pod."""

from __future__ import annotations

import re
from collections.abc import Iterator

from eksml.backends.why.reason import Object, Reason, State, about, at, condition, name_of, words

_INVALID = ("Invalid", "ValidationFailed")
_GATE = re.compile(
    r"(?P<gate>RayCronJob|RayClusterNetworkPolicy|RayClusterMTLS|RayClusterHistoryServer|"
    r"GCSFaultToleranceEmbeddedStorage)\b[^.]*feature ?gate|"
    r"feature ?gate[^.]*\b(?P<gate2>RayCronJob|RayClusterNetworkPolicy|RayClusterMTLS|"
    r"RayClusterHistoryServer|GCSFaultToleranceEmbeddedStorage)\b",
    re.IGNORECASE,
)
_SILENCE_S = 60
_REFUSALS = (
    (
        re.compile(r"exceeded quota"),
        "quota",
        "Raise the namespace's ResourceQuota, or ask for fewer nodes.",
    ),
    (
        re.compile(r"violates PodSecurity"),
        "forbidden",
        "Keep security.restricted on, or label the namespace for what the pod fields ask.",
    ),
    (
        re.compile(r"serviceaccount .* not found"),
        "forbidden",
        "Apply everything that `eksml render` prints, the ServiceAccount too.",
    ),
    (
        re.compile(r"no PriorityClass"),
        "forbidden",
        "Create the PriorityClass, or take priority_class out.",
    ),
    (
        re.compile(r"admission webhook|forbidden|denied"),
        "forbidden",
        "Ask who runs the cluster which policy that is.",
    ),
)


def refused(state: State) -> Reason | None:
    """The operator does not take the specification, or nobody looks at it."""
    for owned in filter(None, (state.owner, state.cluster)):
        for said in _complaints(owned, state):
            return _complaint(owned, said)
    cluster = state.cluster
    if cluster is not None and not at(cluster, "status") and state.waited_s >= _SILENCE_S:
        return Reason(
            f"No operator has looked at {_named(cluster)} in {state.waited_s:.0f} s.",
            "Is the KubeRay operator running, and does it watch this namespace? "
            "`eksml doctor --cluster` tells.",
            "operator",
        )
    return None


def suspended(state: State) -> Reason | None:
    """It waits in a queue, or somebody stopped it on purpose."""
    for workload in state.workloads:
        if reason := _queued(workload):
            return reason
    for owned in filter(None, (state.owner, state.cluster)):
        if at(owned, "spec", "suspend") is True:
            queue = at(owned, "metadata", "labels", "kueue.x-k8s.io/queue-name")
            if queue:
                return Reason(
                    f"{_named(owned)} is suspended, and Kueue has made no Workload of it yet.",
                    f"Is Kueue running, and does it manage Ray and the queue {queue!r}?",
                    "queued",
                )
            return Reason(
                f"{_named(owned)} is suspended.", "Set its suspend to false.", "suspended"
            )
    return None


def no_pods(state: State) -> Reason | None:
    """The API server does not let the operator make pods."""
    cluster = state.cluster
    failure = condition(cluster, "ReplicaFailure")
    if failure.get("status") == "True":
        return _no_pod(str(failure.get("message") or failure.get("reason")))
    if cluster is None:
        return None
    for event in about(state.events, "RayCluster", name_of(cluster)):
        if str(event.get("reason")).startswith("FailedToCreate"):
            return _no_pod(str(event.get("message")))
        if str(event.get("reason")).startswith("Created"):
            return None  # what failed before has worked since
    return None


def _complaints(owned: Object, state: State) -> Iterator[str]:
    if at(owned, "status", "jobDeploymentStatus") == "ValidationFailed":
        yield str(at(owned, "status", "message") or at(owned, "status", "reason"))
    for event in about(state.events, str(owned.get("kind")), name_of(owned)):
        if str(event.get("reason")).startswith(_INVALID):
            yield str(event.get("message"))


def _complaint(owned: Object, said: str) -> Reason:
    if match := _GATE.search(said):
        gate = match["gate"] or match["gate2"]
        return Reason(
            f"The operator's feature gate {gate} is off, and {_named(owned)} needs it: "
            f"«{words(said)}».",
            f"Start the operator with --feature-gates={gate}=true, or take that field out.",
            "gate-off",
        )
    return Reason(
        f"The operator refuses {_named(owned)}: «{words(said)}».",
        "`eksml check` names the field.",
        "refused",
    )


def _queued(workload: Object) -> Reason | None:
    queue = at(workload, "spec", "queueName") or "its queue"
    active = at(workload, "spec", "active")
    reserved, admitted = condition(workload, "QuotaReserved"), condition(workload, "Admitted")
    evicted = condition(workload, "Evicted")
    if condition(workload, "Finished").get("status") == "True":
        return None
    if active is False:
        said = words(evicted.get("message") or "it was deactivated")
        return Reason(
            f"Kueue has deactivated the workload {name_of(workload)}: «{said}».",
            "Set its spec.active to true to queue it again.",
            "queued",
        )
    if admitted.get("status") == "True":
        return None
    if reserved.get("status") == "True":
        waits = [
            f"{check.get('name')}: {check.get('message') or check.get('state')}"
            for check in at(workload, "status", "admissionChecks") or ()
            if check.get("state") != "Ready"
        ]
        said = words("; ".join(waits) or "its admission checks")
        return Reason(f"Kueue has reserved quota in {queue} and waits for {said}.", "", "queued")
    said = words(reserved.get("message") or evicted.get("message") or "not looked at yet")
    return Reason(f"Waits in Kueue's queue {queue}: «{said}».", _queue_remedy(said), "queued")


def _queue_remedy(said: str) -> str:
    if "doesn't exist" in said or "inactive" in said or "stopped" in said:
        return "Create or resume the queue: `kubectl get localqueues,clusterqueues`."
    if "maximum capacity" in said:
        return "It is more than the queue may ever give; ask for fewer nodes."
    return "It starts when quota is free; `kubectl get workloads` shows who holds it."


def _no_pod(said: str) -> Reason:
    for pattern, kind, remedy in _REFUSALS:
        if pattern.search(said):
            sentence = f"The API server refuses its pods: «{words(said)}»."
            return Reason(sentence, remedy, "quota" if kind == "quota" else "forbidden")
    return Reason(
        f"The operator cannot make its pods: «{words(said)}».",
        "The operator's log has more: `kubectl logs deployment/kuberay-operator -n …`.",
        "operator",
    )


def _named(thing: Object) -> str:
    return f"{thing.get('kind') or 'RayCluster'} {name_of(thing)}"
