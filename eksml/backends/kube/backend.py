"""The kube backend: a cluster is a RayCluster and the objects around it."""

from __future__ import annotations

import logging
import time

from eksml.backends.base import Running
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.door import Door, OwnDoor
from eksml.backends.kube.kuberay_client import KuberayDoor
from eksml.backends.kube.objects import Object
from eksml.backends.kube.refusals import NotServed, Refused
from eksml.backends.kube.running import KubeRunning
from eksml.backends.kube.up import Up
from eksml.backends.progress import Progress
from eksml.cluster import Cluster
from eksml.cluster.render.names import MANAGED_BY
from eksml.cluster.vocabulary import RAY_API
from eksml.errors import ClusterError

TIMEOUT_S = 900.0
"""A cold start on EKS: a node (1 to 2 minutes), its drivers, an image of 10 GB."""
_QUICK_S = 5.0
"""Patience of questions that must not hold up whoever asks for a local cluster."""

_log = logging.getLogger(__name__)


class KubeBackend:
    """Clusters on the Kubernetes of the kubeconfig, or of the pod that this process runs in."""

    def up(
        self,
        cluster: Cluster,
        *,
        detach: bool,
        timeout_s: float | None,
        progress: bool,
        keep: bool = False,
        force: bool = False,
        client: object | None = None,
    ) -> Running:
        """Start it and wait for all its pods and the Jobs API; see :func:`eksml.backends.up`.

        Nobody watches the calling process: with ``detach`` or without, the cluster stays until
        ``down``, or the end of a ``with`` block around it.
        """
        kube = KubeClient.connect()
        door: Door = OwnDoor(kube) if client is None else KuberayDoor(client, kube)
        deadline = time.monotonic() + (TIMEOUT_S if timeout_s is None else timeout_s)
        with Progress(f"cluster {cluster.name}", shown=progress) as line:
            up = Up(kube, door, cluster, deadline, line, force=force)
            running = up.existing()
            if running is not None:
                up.wait(running)
                return running
            try:
                running = up.create()
                up.wait(running)
            except BaseException as error:
                if not keep:
                    up.undo(error)
                raise
        for told in up.left_out:
            _log.warning("%s", told)
        return running

    def find(self, name: str) -> Running | None:
        """The cluster ``name``, or ``namespace/name``, if it is there.

        Raises:
            ClusterError: it is in several namespaces, or Kubernetes cannot be asked, or none is
                configured.
        """
        kube = KubeClient.connect(patience_s=_QUICK_S)
        namespace, _, plain = name.rpartition("/")
        found = _list(kube, namespace or None, fields=f"metadata.name={plain}")
        if len(found) > 1:
            places = ", ".join(f"{one['metadata']['namespace']}/{plain}" for one in found)
            raise ClusterError(f"Several clusters are named {plain!r}. Say which: {places}.")
        return KubeRunning(KubeClient.connect(), found[0]) if found else None

    def list_up(self) -> list[Running]:
        """All clusters that eksml created, in all namespaces that may be read.

        Where Kubernetes cannot be asked, a warning is logged: local clusters are worth showing
        without it.
        """
        try:
            kube = KubeClient.connect(patience_s=_QUICK_S)
            found = _list(kube, None, labels=f"{MANAGED_BY}=eksml")
        except ClusterError as error:
            _log.warning("Clusters on Kubernetes are not shown. %s", error)
            return []
        # A RayJob's or RayService's own cluster carries their labels, and goes with them
        mine = [one for one in found if not one["metadata"].get("ownerReferences")]
        return [KubeRunning(KubeClient.connect(), one) for one in mine]


def _list(
    kube: KubeClient, namespace: str | None, *, labels: str = "", fields: str = ""
) -> list[Object]:
    """RayClusters that are not being deleted: all, else those of the context's namespace."""
    try:
        listed = kube.list(RAY_API, "RayCluster", namespace, labels=labels, fields=fields)
    except NotServed:
        return []
    except Refused:
        if namespace is not None:
            raise
        return _list(kube, kube.access.namespace, labels=labels, fields=fields)
    return [one for one in listed.items if not one["metadata"].get("deletionTimestamp")]
