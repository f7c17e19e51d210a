"""A fake of KubeRay's operator, the scheduler and the kubelet: pods come up, or fail by script."""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass
from typing import Any, Literal, Self

from kube_server import pods
from kube_server.server import KubeServer
from kube_server.store import Store, Thing, key_of, now

RAY_TOKEN = "Ray's token, by the fake operator"


@dataclass
class Script:
    """What shall go wrong."""

    failure: Literal["", "silent", "quota", "image", "unschedulable", "init", "crash"] = ""
    group: str = ""
    """Whose pods fail; empty: everybody's."""
    job: tuple[str, str] = ("Complete", "SUCCEEDED")
    """How RayJobs end: deployment status and job status."""


class FakeOperator:
    """Makes the pods, the service, the token's Secret and the status of each RayCluster."""

    def __init__(self, kube: KubeServer, script: Script | None = None) -> None:
        self.script = script or Script()
        self._kube = kube
        self._store: Store = kube.store
        self._num_pods = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="fake operator")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with self._store.changed:
            self._store.changed.notify_all()
        self._thread.join()

    def ips(self) -> list[str]:
        """Addresses of all ready pods."""
        found = self._store.select("v1", "Pod")
        return [pod["status"]["podIP"] for pod in found if pods.is_ready(pod)]

    def token(self) -> str:
        return RAY_TOKEN

    def _run(self) -> None:
        version = -1
        while not self._stopping:
            with self._store.changed:
                if self._store.version == version:
                    self._store.changed.wait(1)
                version = self._store.version
                self._store.collect()
                for job in self._store.select("ray.io/v1", "RayJob"):
                    self._run_job(job)
                if self.script.failure != "silent":
                    for cluster in self._store.select("ray.io/v1", "RayCluster"):
                        if "deletionTimestamp" not in cluster["metadata"]:
                            self._reconcile(cluster)

    def _reconcile(self, cluster: Thing) -> None:
        if self.script.failure == "quota":
            self._tell(cluster, "FailedToCreateHeadPod", _QUOTA.format(cluster["metadata"]["name"]))
            return
        name = cluster["metadata"]["name"]
        options = cluster["spec"].get("authOptions") or {}
        if options.get("mode") == "token" and not options.get("secretName"):
            token = base64.b64encode(RAY_TOKEN.encode()).decode()
            self._own(cluster, "Secret", name, {"data": {"auth_token": token}})
        self._own(cluster, "Service", f"{name}-head-svc", {"spec": {}})
        self._keep(cluster, "headgroup", 1, cluster["spec"]["headGroupSpec"]["template"])
        desired = 0
        for group in cluster["spec"].get("workerGroupSpecs") or ():
            replicas = group.get("replicas", group["minReplicas"]) * group.get("numOfHosts", 1)
            desired += replicas
            self._keep(cluster, group["groupName"], replicas, group["template"])
        self._write_status(cluster, desired)

    def _keep(self, cluster: Thing, group: str, wanted: int, template: Thing) -> None:
        """Exactly so many pods of a group, each as the script says."""
        mine = [
            pod for pod in self._pods(cluster) if pod["metadata"]["labels"]["ray.io/group"] == group
        ]
        for pod in mine[wanted:]:
            self._store.delete(key_of(pod))
        for _ in range(wanted - len(mine)):
            self._num_pods += 1
            pod = pods.make(cluster, group, self._num_pods, template)
            pod["metadata"]["ownerReferences"] = [_reference(cluster)]
            fails = self.script.group in ("", group)
            failure = self.script.failure if fails else ""
            pod["status"], said = pods.status(pod, self._num_pods, failure)
            made = self._store.put(pod)
            for reason, message in said:
                self._tell(made, reason, message)
            if failure == "crash":
                self._kube.logs[made["metadata"]["name"], True] = pods.LAST_WORDS

    def _write_status(self, cluster: Thing, desired: int) -> None:
        mine = self._pods(cluster)
        ready = [pod["metadata"]["labels"]["ray.io/group"] for pod in mine if pods.is_ready(pod)]
        head, workers = "headgroup" in ready, len([g for g in ready if g != "headgroup"])

        def change(thing: Thing) -> None:
            status = thing.setdefault("status", {})
            status |= {
                "observedGeneration": thing["metadata"]["generation"],
                "desiredWorkerReplicas": desired,
                "readyWorkerReplicas": workers,
                "head": {"serviceName": f"{thing['metadata']['name']}-head-svc"},
                "conditions": [{"type": "HeadPodReady", "status": str(head)}],
            }
            if head and workers >= desired:
                status["state"] = "ready"

        self._store.edit(key_of(cluster), change)

    def _run_job(self, job: Thing) -> None:
        if "deletionTimestamp" in job["metadata"] or job.get("status"):
            return
        name = f"{job['metadata']['name']}-abcde"
        if spec := job["spec"].get("rayClusterSpec"):
            body = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "spec": spec}
            place = {"name": name, "namespace": job["metadata"]["namespace"]}
            self._store.put({**body, "metadata": {**place, "ownerReferences": [_reference(job)]}})
        deployment, status = self.script.job

        def change(thing: Thing) -> None:
            thing["status"] = {
                "jobDeploymentStatus": deployment,
                "jobStatus": status,
                "rayClusterName": name if spec else "",
            }

        self._store.edit(key_of(job), change)

    def _pods(self, cluster: Thing) -> list[Thing]:
        metadata = cluster["metadata"]
        found = self._store.select("v1", "Pod", metadata["namespace"])
        return [
            pod
            for pod in found
            if (pod["metadata"].get("labels") or {}).get("ray.io/cluster") == metadata["name"]
        ]

    def _own(self, cluster: Thing, kind: str, name: str, content: dict[str, Any]) -> None:
        place = {"name": name, "namespace": cluster["metadata"]["namespace"]}
        if self._store.get(("v1", kind, place["namespace"], name)) is None:
            metadata = {**place, "ownerReferences": [_reference(cluster)]}
            self._store.put({"apiVersion": "v1", "kind": kind, "metadata": metadata, **content})

    def _tell(self, thing: Thing, reason: str, message: str) -> None:
        metadata = thing["metadata"]
        name = f"{metadata['name']}.{reason.lower()}"
        if self._store.get(("v1", "Event", metadata["namespace"], name)) is not None:
            return
        about = {"kind": thing["kind"], "name": metadata["name"], "uid": metadata["uid"]}
        self._store.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": metadata["namespace"]},
                "involvedObject": about,
                "type": "Warning",
                "reason": reason,
                "message": message,
                "lastTimestamp": now(),
            }
        )


_QUOTA = (
    'pods "{}-head" is forbidden: exceeded quota: team, requested: requests.nvidia.com/gpu=8, '
    "used: requests.nvidia.com/gpu=32, limited: requests.nvidia.com/gpu=32"
)


def _reference(owner: Thing) -> dict[str, Any]:
    metadata = owner["metadata"]
    named = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"]}
    return {**named, "uid": metadata["uid"], "controller": True}
