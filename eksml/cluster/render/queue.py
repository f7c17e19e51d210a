"""The door to Kueue: a LocalQueue in the cluster's namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster


def queue(spec: Cluster) -> list[dict[str, Any]]:
    """The LocalQueue that ``queue`` names, if the specification says where it leads.

    Most namespaces have theirs from whoever runs the platform, and a second opinion on where it
    leads would be refused as a conflict. ResourceFlavor and ClusterQueue share out the whole
    platform, which no single cluster knows.
    """
    if spec.queue is None or spec.queue.cluster_queue is None:
        return []
    return [
        {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "LocalQueue",
            "metadata": namespaced(spec, spec.queue.name),
            "spec": {"clusterQueue": spec.queue.cluster_queue},
        }
    ]
