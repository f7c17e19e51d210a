"""One call of ``up``: create, wait, and take everything back if that fails."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from eksml.backends.dashboard import Dashboard
from eksml.backends.kube import apply
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import Door, is_same_up
from eksml.backends.kube.objects import (
    OBJECTS_ANNOTATION,
    SPEC_ANNOTATION,
    UP_ANNOTATION,
    Object,
    ray_cluster_ref,
)
from eksml.backends.kube.running import KubeRunning
from eksml.backends.kube.starting import wait_ready
from eksml.backends.kube.templates import check_templates
from eksml.backends.kube.watch import wait_gone
from eksml.backends.progress import Progress
from eksml.cluster import Cluster
from eksml.cluster.render import ray_cluster, surroundings
from eksml.errors import ClusterInUse, ClusterNotUp, ClusterStartFailed, EksmlError

_UNDO_S = 120.0
_PAUSE_S = 0.5


class Up:
    """One call of ``up``."""

    def __init__(
        self,
        client: KubeClient,
        door: Door,
        cluster: Cluster,
        deadline: float,
        line: Progress,
        *,
        force: bool,
    ) -> None:
        self._client = client
        self._door = door
        self._cluster = cluster
        self._deadline = deadline
        """On the monotonic clock."""
        self._line = line
        self._ref = ray_cluster_ref(cluster.name, cluster.namespace)
        self._change = apply.Change(client, cluster.name, force=force)
        self._manifest: Object | None = None

    @property
    def left_out(self) -> list[str]:
        """What was not applied, and why."""
        return self._change.left_out

    def existing(self) -> KubeRunning | None:
        """The equal cluster that is there already. Waits for one that is being deleted to go.

        Raises:
            ClusterInUse: another of that name is there.
        """
        live = self._door.get(self._ref)
        if live is None:
            return None
        if live["metadata"].get("deletionTimestamp"):
            self._line.show("waiting for the one before it to end")
            if not wait_gone(self._client, self._ref, self._left_s()):
                raise ClusterInUse(f"{self._ref} is being deleted, and its pods have not ended.")
            return None
        running = KubeRunning(self._client, live, door=self._door)
        if running.spec != self._cluster:
            raise ClusterInUse(
                f"Another {self._ref} is up, with another specification. Take it down with "
                f"`eksml down {running.name}`, or choose another name."
            )
        return running

    def create(self) -> KubeRunning:
        """Apply what is around the cluster, then create the RayCluster.

        Raises:
            InvalidSpec: the specification, or the API server, does not take an object.
            ClusterInUse: somebody else created a cluster of that name just now.
            ClusterError: the API server refuses, or another manager owns a field.
        """
        around, raycluster = surroundings(self._cluster), ray_cluster(self._cluster)
        self._line.show("applying its objects")
        self._change.apply(around)
        check_templates(self._client, raycluster)
        self._manifest = self._marked(raycluster)
        made = self._door.create(self._manifest)
        self._change.bind(made, self._change.shared)
        return KubeRunning(self._client, made, started_here=True, door=self._door)

    def wait(self, running: KubeRunning) -> None:
        """Until all pods are ready and the Jobs API answers.

        Raises:
            ClusterStartFailed: that did not happen in time; with the reason.
        """
        wait_ready(self._client, self._ref, timeout_s=self._left_s(), line=self._line)
        while True:
            self._line.show("waiting for its Jobs API")
            try:
                Dashboard(running.jobs_address, running.token).version()
                return
            except ClusterNotUp as error:
                if self._left_s() <= 0:
                    raise ClusterStartFailed(
                        f"All pods of {self._ref} are ready, but: {error}"
                    ) from error
            time.sleep(_PAUSE_S)

    def undo(self, failure: BaseException) -> None:
        """Remove all that this call created. What cannot be removed is noted on ``failure``."""
        self._line.show("removing what was created")
        try:
            live = self._door.get(self._ref)
            if live is not None and self._manifest is not None and is_same_up(live, self._manifest):
                self._door.delete(self._ref)
                if not wait_gone(self._client, self._ref, _UNDO_S):
                    failure.add_note(f"{self._ref} is being deleted, and its pods have not ended.")
            elif live is not None:
                return  # somebody else's, made meanwhile, and it needs the objects around it
        except EksmlError as error:
            failure.add_note(f"{self._ref} was left behind: {error}")
        self._change.undo(failure)

    def _left_s(self) -> float:
        return self._deadline - time.monotonic()

    def _marked(self, raycluster: Object) -> Object:
        """The RayCluster with what ``find`` and ``down`` need to know."""
        thing = apply.owned(raycluster, self._cluster.name)
        metadata: Mapping[str, Any] = thing["metadata"]
        annotations = {
            **(metadata.get("annotations") or {}),
            SPEC_ANNOTATION: self._cluster.to_yaml(),
            OBJECTS_ANNOTATION: apply.write_inventory(self._change.owned),
            UP_ANNOTATION: secrets.token_hex(8),
        }
        return {**thing, "metadata": {**metadata, "annotations": annotations}}
