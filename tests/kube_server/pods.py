"""Pods as the fake operator makes them, with what a kubelet and a scheduler say of them."""

from __future__ import annotations

from typing import Any

from kube_server.store import Thing, now

LAST_WORDS = "starting\nImportError: no module named torch\n"


def make(cluster: Thing, group: str, number: int, template: Thing) -> Thing:
    """A pod of a group."""
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    head = group == "headgroup"
    inner = template.get("metadata") or {}
    labels = {
        **(inner.get("labels") or {}),
        "ray.io/cluster": name,
        "ray.io/group": group,
        "ray.io/node-type": "head" if head else "worker",
        "ray.io/is-ray-node": "yes",
    }
    own = f"{name}-head" if head else f"{name}-{group}-worker-{number:05d}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": own, "namespace": namespace, "labels": labels},
        "spec": template["spec"],
    }


def is_ready(pod: Thing) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def status(pod: Thing, number: int, failure: str) -> tuple[Thing, list[tuple[str, str]]]:
    """The status of a healthy pod or of one that fails so, and the events about it."""
    name = pod["spec"]["containers"][0]["name"]
    image = pod["spec"]["containers"][0].get("image", "")
    if failure == "unschedulable":
        told = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: not helpful."
        scheduled = _condition("PodScheduled", "False", "Unschedulable", told)
        return {"phase": "Pending", "conditions": [scheduled]}, [("FailedScheduling", told)]
    scheduled = _condition("PodScheduled", "True")
    base = {"podIP": f"10.0.0.{number}", "hostIP": "10.0.1.1", "startTime": now()}
    if not failure:
        running: Thing = {"running": {"startedAt": now()}}
        container = _container(name, image, running, ready=True)
        conditions = [scheduled, _condition("Ready", "True")]
        fine = {"phase": "Running", "conditions": conditions, "containerStatuses": [container]}
        return {**base, **fine}, []
    conditions = [scheduled, _condition("Ready", "False", "ContainersNotReady")]
    waiting = {**base, "phase": "Pending", "conditions": conditions}
    if failure == "image":
        told = f'Failed to pull image "{image}": not found'
        state = {"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off "{image}"'}}
        return {**waiting, "containerStatuses": [_container(name, image, state)]}, [
            ("Failed", told)
        ]
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    crashing = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    if failure == "init":
        init = _container("fetch-model", image, crashing, restarts=3, last=ended)
        blocked = _container(name, image, {"waiting": {"reason": "PodInitializing"}})
        return {**waiting, "initContainerStatuses": [init], "containerStatuses": [blocked]}, []
    crashed = _container(name, image, crashing, restarts=3, last=ended)
    return {**waiting, "phase": "Running", "containerStatuses": [crashed]}, []


def _condition(kind: str, value: str, reason: str = "", message: str = "") -> dict[str, Any]:
    told = {"reason": reason, "message": message} if reason else {}
    return {"type": kind, "status": value, "lastTransitionTime": now(), **told}


def _container(
    name: str,
    image: str,
    state: Thing,
    *,
    ready: bool = False,
    restarts: int = 0,
    last: Thing | None = None,
) -> Thing:
    counted = {"ready": ready, "restartCount": restarts, "lastState": last or {}}
    return {"name": name, "image": image, "state": state, **counted}
