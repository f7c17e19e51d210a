"""The door to Kueue: a LocalQueue in the cluster's namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster


def local_queue(spec: Cluster, cluster_queue: str) -> dict[str, Any]:
    """The LocalQueue that ``queue`` names, leading to the ClusterQueue ``cluster_queue``.

    Not among the surroundings: most namespaces have their LocalQueue from whoever runs the
    platform, and a second opinion on where it leads would be refused as a conflict. ResourceFlavor
    and ClusterQueue share out the whole platform, which no single cluster knows.

    Raises:
        InvalidSpec: the specification names no queue of Kueue.
    """
    if spec.queue is None or spec.queue.kind != "kueue":
        problem = Problem("queue", "names no queue of Kueue.", "Say queue: {name: …, kind: kueue}.")
        raise InvalidSpec([problem], subject="the LocalQueue")
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": namespaced(spec, spec.queue.name),
        "spec": {"clusterQueue": cluster_queue},
    }
