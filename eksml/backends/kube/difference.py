"""What ``up`` would change on a Kubernetes where the cluster is already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eksml.backends.kube.apply import is_owned, read_inventory
from eksml.backends.kube.client import KubeClient
from eksml.backends.kube.objects import Object, Ref
from eksml.backends.kube.refusals import NotServed
from eksml.cluster import Cluster
from eksml.cluster.diff import Change, diff
from eksml.cluster.render import objects

_MARKS = ("metadata.annotations.eksml.io/", "metadata.labels.eksml.io/")
"""What ``up`` writes beside what is rendered."""


def differences(cluster: Cluster) -> list[Change]:
    """What applying the objects of ``cluster`` would change on the configured Kubernetes.

    Objects that an earlier ``up`` made for the cluster and that are no longer rendered shall go.

    Raises:
        InvalidSpec: the specification cannot be rendered.
        ClusterError: none is configured, or it refuses or does not answer.
    """
    client = KubeClient.connect()
    wanted = objects(cluster)
    live = list(_live(client, cluster, wanted))
    return [one for one in diff(wanted, live) if not one.path.startswith(_MARKS)]


def _live(client: KubeClient, cluster: Cluster, wanted: Sequence[Object]) -> Iterator[Object]:
    refs = [Ref.of(thing) for thing in wanted]
    for ref in refs:
        if (thing := _get(client, ref)) is None:
            continue
        yield thing
        if ref.kind == "RayCluster":
            for other in read_inventory(thing):
                left = None if other in refs else _get(client, other)
                if left is not None and is_owned(left, cluster.name):
                    yield left


def _get(client: KubeClient, ref: Ref) -> Object | None:
    try:
        return client.get(ref)
    except NotServed:
        return None
