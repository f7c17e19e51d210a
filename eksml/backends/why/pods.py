"""What keeps one pod: from its conditions, its containers, its events and its last log lines."""

from __future__ import annotations

from collections.abc import Iterator

from eksml.backends.why import nodes
from eksml.backends.why.reason import Cause, Object, State, about, at, condition, name_of, words
from eksml.backends.why.scheduling import unschedulable

_IMAGE = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
)
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_KUEUE_GATE = "kueue.x-k8s.io/"
_GCS_WAIT = "wait-gcs-ready"
_LOG_LINES = 3


def keeps(pod: Object, state: State) -> Cause | None:
    """What keeps the pod from being ready; None if it is ready, or has done its work."""
    phase = at(pod, "status", "phase")
    if phase == "Succeeded" or condition(pod, "Ready").get("status") == "True":
        return None
    if phase == "Failed":
        return _failed(pod, state)
    if at(pod, "metadata", "deletionTimestamp"):
        return Cause("starting", "is being deleted; another takes its place")
    if condition(pod, "PodScheduled").get("status") != "True" and not at(pod, "spec", "nodeName"):
        return _not_scheduled(pod, state)
    for cause in _containers(pod, state):
        return cause
    return _on_its_node(pod, state)


def _not_scheduled(pod: Object, state: State) -> Cause:
    told = condition(pod, "PodScheduled")
    if told.get("reason") == "SchedulingGated":
        gates = [str(gate.get("name")) for gate in at(pod, "spec", "schedulingGates") or ()]
        if any(gate.startswith(_KUEUE_GATE) for gate in gates):
            return Cause("queued", "waits for Kueue to admit it", "See `kubectl get workloads`.")
        return Cause("queued", f"is held back by scheduling gates ({', '.join(gates)})")
    said = str(told.get("message") or "")
    if not said:
        return Cause("starting", "was made just now and is not scheduled yet")
    filtered = unschedulable(said)
    if filtered.kind == "volume":  # no new node would help
        return filtered
    return nodes.no_node(pod, state) or filtered


def _containers(pod: Object, state: State) -> Iterator[Cause]:
    """What the containers say for themselves, init containers first."""
    for init in at(pod, "status", "initContainerStatuses") or ():
        name = str(init.get("name"))
        if name == _GCS_WAIT and at(init, "state", "running") is not None:
            remedy = "Is the head ready, and may pods of the group reach its port 6379?"
            yield Cause("init", "waits for Ray's control plane on the head", remedy)
        elif cause := _container(init, pod, state):
            yield _of_init(name, cause)
        elif at(init, "state", "running") is not None and init.get("started") is not True:
            yield Cause("init", f"runs its init container {name}")
    for container in at(pod, "status", "containerStatuses") or ():
        if cause := _container(container, pod, state):
            yield cause


def _container(status: Object, pod: Object, state: State) -> Cause | None:
    waiting = at(status, "state", "waiting") or {}
    reason, said = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in _IMAGE:
        return _image(str(status.get("image") or ""), reason, said, pod, state)
    if reason in _CONFIG:
        remedy = "Create what is missing in the cluster's namespace."
        return Cause("config", f"cannot start its container: «{words(said or reason)}»", remedy)
    ended = at(status, "state", "terminated") or at(status, "lastState", "terminated") or {}
    crashed = reason == "CrashLoopBackOff" or ended.get("exitCode")
    return _crash(ended, status, pod, state) if crashed else None


def _image(image: str, reason: str, said: str, pod: Object, state: State) -> Cause:
    """Back-off only says that it backs off; the event before it has the registry's words."""
    if reason == "ImagePullBackOff":
        said = next(
            (
                str(event.get("message"))
                for event in about(state.events, "Pod", name_of(pod))
                if str(event.get("message") or "").startswith("Failed to pull image")
            ),
            said,
        )
    lower = said.lower()
    if "not found" in lower or "manifest unknown" in lower or reason == "InvalidImageName":
        remedy = "Does the tag exist, and is the repository's name right? Set image=."
    elif "unauthorized" in lower or "denied" in lower or "403" in lower or "no basic auth" in lower:
        remedy = (
            "May the node role read that repository (ecr:BatchGetImage), or is a secret missing?"
        )
    elif "toomanyrequests" in lower or "rate limit" in lower:
        remedy = "Mirror the image to ECR: a pull-through cache does it."
    elif "no match for platform" in lower:
        remedy = "The image is not built for this architecture; use another image or instance."
    else:
        remedy = "Can the nodes reach the registry (NAT gateway, VPC endpoints for ECR and S3)?"
    return Cause("image", f"cannot pull its image {image}: «{words(said or reason)}»", remedy)


def _crash(ended: Object, status: Object, pod: Object, state: State) -> Cause:
    restarts = int(status.get("restartCount") or 0)
    again = f" (restarted {restarts} times)" if restarts > 1 else ""
    if ended.get("reason") == "OOMKilled":
        remedy = "Give the group more memory, or its tasks less to hold."
        return Cause("out-of-memory", f"ran out of memory and was killed{again}", remedy)
    code = ended.get("exitCode")
    exited = "keeps crashing" if code is None else f"ended with exit code {code}"
    return Cause("crash", f"{exited}{again}{_last_words(ended, pod, state)}", _look(pod))


def _failed(pod: Object, state: State) -> Cause:
    """A pod that is over and did not succeed."""
    reason, said = at(pod, "status", "reason"), at(pod, "status", "message")
    disrupted = condition(pod, "DisruptionTarget")
    if disrupted.get("status") == "True":
        told = words(disrupted.get("message") or disrupted.get("reason"))
        return Cause("evicted", f"was put off its node: «{told}»", "Another takes its place.")
    if reason:
        return Cause(
            "evicted", f"was ended ({reason}): «{words(said)}»", "Another takes its place."
        )
    for cause in _containers(pod, state):
        return cause
    return Cause("crash", f"failed{_last_words({}, pod, state)}", _look(pod))


def _on_its_node(pod: Object, state: State) -> Cause:
    """Scheduled, no container complains: what the kubelet's events say."""
    for event in about(state.events, "Pod", name_of(pod)):
        if event.get("type") != "Warning":
            continue
        reason, said = event.get("reason"), words(event.get("message"))
        if reason in ("FailedMount", "FailedAttachVolume", "FailedMapVolume"):
            remedy = (
                "Is the CSI driver installed and its identity allowed? `eksml doctor --cluster`."
            )
            return Cause("volume", f"cannot mount a volume: «{said}»", remedy)
        if reason == "FailedCreatePodSandBox":
            remedy = "If addresses ran out: more subnets or prefix delegation in the VPC CNI."
            return Cause("network", f"gets no network on its node: «{said}»", remedy)
        if reason == "Unhealthy":
            return Cause("unready", f"runs and does not answer its probe: «{said}»", _look(pod))
    if any(_doing(pod, "running")):
        return Cause("starting", "runs, and Ray in it is not ready yet")
    pulling = any(
        event.get("reason") == "Pulling" for event in about(state.events, "Pod", name_of(pod))
    )
    return Cause("starting", "pulls its image" if pulling else "starts on its node")


def _doing(pod: Object, what: str) -> Iterator[bool]:
    for status in at(pod, "status", "containerStatuses") or ():
        yield at(status, "state", what) is not None


def _of_init(name: str, cause: Cause) -> Cause:
    kind = "init" if cause.kind == "crash" else cause.kind
    return Cause(kind, f"is held by its init container {name}, which {cause.text}", cause.remedy)


def _last_words(ended: Object, pod: Object, state: State) -> str:
    """The end of the log, or what the container left as its termination message."""
    lines = [line for line in state.logs.get(name_of(pod), ()) if line.strip()]
    said = words(" ⏎ ".join(lines[-_LOG_LINES:]) or ended.get("message"))
    return f": «{said}»" if said else ""


def _look(pod: Object) -> str:
    return f"`kubectl logs {name_of(pod)} --previous` has all of it."
