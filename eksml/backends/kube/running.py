"""A cluster on Kubernetes: its addresses, its nodes, its logs, and how it changes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import suppress

from eksml.backends.base import NodeStatus, Running, Status
from eksml.backends.bill import bill
from eksml.backends.dashboard import Dashboard, RayNode
from eksml.backends.kube import apply, forward, pods, scaling
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import Door, OwnDoor
from eksml.backends.kube.objects import SPEC_ANNOTATION, Object, Ref
from eksml.backends.kube.starting import why_waiting
from eksml.backends.kube.watch import wait_gone
from eksml.backends.why import Reason
from eksml.backends.why.reason import at, condition
from eksml.cluster import Cluster
from eksml.cluster.render.access import TOKEN_KEY
from eksml.cluster.usage import Receipt
from eksml.errors import ClusterError, ClusterNotUp, InvalidSpec, Problem

GCS_PORT = 6379
DASHBOARD_PORT = 8265
DOWN_S = 300.0
"""Pods may drain for their grace period before they are gone."""


class KubeRunning(Running):
    """A RayCluster that is there. Everything is asked anew; it keeps nothing but the token."""

    def __init__(
        self,
        client: KubeClient,
        raycluster: Object,
        *,
        started_here: bool = False,
        door: Door | None = None,
    ) -> None:
        self.ref = Ref.of(raycluster)
        self.name = self.ref.name
        self.namespace = str(self.ref.namespace)
        """Where its objects are."""
        self.spec = _read_spec(raycluster)
        self.started_here = started_here
        self._client = client
        self._door = door or OwnDoor(client)
        self._uid = raycluster["metadata"]["uid"]
        self._token: str | None = None

    @property
    def token(self) -> str:  # type: ignore[override]  # read when first needed: not all may
        """Ray's token, from the cluster's Secret. Not to be printed or logged.

        Raises:
            ClusterNotUp: the Secret is not there (yet).
            ClusterError: it may not be read.
        """
        if self._token is None:
            self._token = _read_token(self._client, self._raycluster())
        return self._token

    @property
    def address(self) -> str:
        """Of GCS, for pods of the same Kubernetes; from outside, Ray can only be sent jobs."""
        raycluster = self._raycluster()
        return _service(raycluster, GCS_PORT) if self._client.access.in_cluster else ""

    @property
    def jobs_address(self) -> str:
        """Of the Jobs API: the service's name inside Kubernetes, else a forward that lasts as
        long as this process."""
        raycluster = self._raycluster()
        if self._client.access.in_cluster:
            return f"http://{_service(raycluster, DASHBOARD_PORT)}"
        here = forward.shared(self._client, self.name, self.namespace, DASHBOARD_PORT)
        return f"http://{here.address}"

    def env(self) -> dict[str, str]:
        found = {
            "RAY_API_SERVER_ADDRESS": self.jobs_address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
        }
        return {"RAY_ADDRESS": self.address, **found} if self.address else found

    def status(self) -> Status:
        raycluster = self._raycluster()
        mine = self._pods()
        seen: dict[str, RayNode] = {}
        if any(_is_head(pod) and _phase(pod) == "running" for pod in mine):
            with suppress(ClusterError):  # Kubernetes' half of the answer stands alone
                alive = Dashboard(self.jobs_address, self.token).nodes()
                seen = {node.ip: node for node in alive}
        nodes = tuple(_node(pod, seen) for pod in mine)
        inside = f"http://{_service(raycluster, DASHBOARD_PORT)}"
        return Status(self.name, phase_of(raycluster), inside, nodes)

    def why(self) -> Reason:
        """Why it is not ready, as one sentence and a remedy.

        Raises:
            ClusterError: that cannot be read.
        """
        return why_waiting(self._client, self.ref)

    def receipt(self) -> Receipt:
        """Node hours and cost since the head started, by instance type and market.

        Raises:
            ClusterNotUp: Ray does not answer.
            ClusterError: another eksml, or nobody, wrote down its specification.
        """
        if self.spec is None:
            raise ClusterError(f"{self.ref} tells no specification, so its machines are unknown.")
        return bill(self.spec, Dashboard(self.jobs_address, self.token).lives())

    def scale(self, group: str, num_nodes: int) -> None:
        """Ask for that many nodes of a group; returns before they are there.

        Where Ray's autoscaler runs, the number becomes the group's least; idle nodes above it go.

        Raises:
            InvalidSpec: no such group, or outside its ``nodes`` range.
            ClusterNotUp: it is gone.
        """
        scaling.scale(self._client, self._raycluster(), self.spec, group, num_nodes)

    def logs(
        self, node: str = "head", *, lines: int = 200, follow: bool = False, previous: bool = False
    ) -> Iterator[str]:
        """The last lines that Ray's container of a node printed; with ``follow``, new ones too.

        ``previous``: of the container before the last restart.

        Raises:
            ClusterError: no such node, or its log cannot be read.
        """
        pod = self._pod(node)
        if follow:
            return pods.follow_log(self._client, pod, lines=lines)
        return iter(pods.log(self._client, pod, lines=lines, previous=previous).splitlines())

    def exec(
        self, command: Sequence[str], *, node: str = "head", timeout_s: float = 60
    ) -> pods.Executed:
        """Run a command on a node and wait for its end.

        Raises:
            ClusterError: no such node, it could not be started, or did not end in time.
        """
        return pods.execute(self._client, self._pod(node), command, timeout_s)

    def shell(self, command: Sequence[str] = ("bash", "-l"), *, node: str = "head") -> int:
        """A session on a node at this terminal, as ssh would give; returns its exit code.

        Raises:
            ClusterError: no such node, no terminal here, or it could not be started.
        """
        return pods.interact(self._client, self._pod(node), command)

    def forward(self, port: int, *, local_port: int = 0) -> forward.Forward:
        """A port of the head on this machine, until it is closed; 0: any free port.

        Raises:
            OSError: the local port is taken.
        """
        return forward.Forward(self._client, self.name, self.namespace, port, local_port=local_port)

    def down(self, *, timeout_s: float = DOWN_S) -> None:
        """Delete the RayCluster and wait until its pods are gone; then delete what else ``up``
        created. Doing it twice is fine.

        Raises:
            ClusterError: eksml did not create it, or its pods do not end in ``timeout_s``.
        """
        forward.end_shared(self._client, self.name, self.namespace)
        live = self._door.get(self.ref)
        if live is None or live["metadata"]["uid"] != self._uid:
            return
        if not apply.is_owned(live, self.name):
            raise ClusterError(
                f"eksml did not create {self.ref}. Delete it as it was created: "
                f"`kubectl delete raycluster {self.name} -n {self.namespace}`."
            )
        others = apply.read_inventory(live)
        self._door.delete(self.ref)
        if not wait_gone(self._client, self.ref, timeout_s):
            left = ", ".join(pod["metadata"]["name"] for pod in self._pods()) or "no pods"
            raise ClusterError(
                f"{self.ref} is being deleted, and not gone after {timeout_s:g} s ({left} left). "
                f"`eksml down {self.name}` goes on waiting."
            )
        apply.remove(self._client, self.name, others)

    def _raycluster(self) -> Object:
        """The RayCluster now."""
        live = self._door.get(self.ref)
        if live is None or live["metadata"]["uid"] != self._uid:
            raise ClusterNotUp(f"Cluster {self.name!r} is not up any more.")
        return live

    def _pods(self) -> list[Object]:
        labels = f"ray.io/cluster={self.name}"
        found = self._client.list("v1", "Pod", self.namespace, labels=labels).items
        return sorted(found, key=lambda pod: (not _is_head(pod), pod["metadata"]["name"]))

    def _pod(self, node: str) -> Object:
        found = self._pods()
        for pod in found:
            if node == pod["metadata"]["name"] or (node == "head" and _is_head(pod)):
                return pod
        names = ", ".join(pod["metadata"]["name"] for pod in found) or "none"
        problem = Problem("node", f"{node!r} is no node of {self.name!r}.", f"Its nodes: {names}.")
        raise InvalidSpec([problem], subject="the call")


def phase_of(raycluster: Object) -> str:
    """``starting``, ``running``, ``stopping`` or ``failed``."""
    if raycluster["metadata"].get("deletionTimestamp"):
        return "stopping"
    state = at(raycluster, "status", "state")
    return {"ready": "running", "failed": "failed"}.get(str(state), "starting")


def _read_spec(raycluster: Object) -> Cluster | None:
    """None for a RayCluster that somebody else wrote, or a newer eksml."""
    text = at(raycluster, "metadata", "annotations", SPEC_ANNOTATION)
    try:
        return Cluster.from_yaml(text) if text else None
    except InvalidSpec:
        return None


def _read_token(client: KubeClient, raycluster: Object) -> str:
    options = at(raycluster, "spec", "authOptions") or {}
    if options.get("mode") != "token":
        return ""
    metadata = raycluster["metadata"]
    name = options.get("secretName") or metadata["name"]
    ref = Ref("v1", "Secret", name, metadata["namespace"])
    secret = client.get(ref)
    if secret is None or TOKEN_KEY not in (secret.get("data") or {}):
        raise ClusterNotUp(
            f"{ref} with Ray's token ({TOKEN_KEY}) is not there. The operator makes it as the "
            "cluster starts, unless the specification names a Secret of your own."
        )
    return base64.b64decode(secret["data"][TOKEN_KEY]).decode().strip()


def _service(raycluster: Object, port: int) -> str:
    metadata = raycluster["metadata"]
    name = at(raycluster, "status", "head", "serviceName") or f"{metadata['name']}-head-svc"
    return f"{name}.{metadata['namespace']}.svc.cluster.local:{port}"


def _is_head(pod: Object) -> bool:
    return bool(at(pod, "metadata", "labels", "ray.io/node-type") == "head")


def _phase(pod: Object) -> str:
    if at(pod, "metadata", "deletionTimestamp"):
        return "draining"
    if at(pod, "status", "phase") in ("Failed", "Succeeded"):
        return "lost"
    return "running" if condition(pod, "Ready").get("status") == "True" else "starting"


def _node(pod: Object, seen: dict[str, RayNode]) -> NodeStatus:
    ip = str(at(pod, "status", "podIP") or "")
    ray = seen.get(ip)
    phase = _phase(pod)
    group = "head" if _is_head(pod) else str(at(pod, "metadata", "labels", "ray.io/group") or "")
    return NodeStatus(
        id=pod["metadata"]["name"],
        group=group,
        phase="lost" if phase == "running" and seen and not ray else phase,
        ip=ip,
        node_id=ray.node_id if ray else "",
        resources=ray.resources if ray else {},
        labels=ray.labels if ray else {},
    )
