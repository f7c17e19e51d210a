"""Names, labels and annotations of the Ray objects, the queue's among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.names import namespaced

if TYPE_CHECKING:
    from eksml.cluster.options import Queue
    from eksml.cluster.spec import Cluster

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


def metadata(spec: Cluster, *, queued: bool = True) -> dict[str, Any]:
    """The ``metadata`` of a Ray object; of one that is ``queued``, with the queue's labels.

    The operator hands labels on, from a RayJob or RayService to its RayClusters and their pods.
    """
    made = namespaced(spec, spec.name)
    if spec.queue is None or not queued:
        return made
    made["labels"] |= _queue_labels(spec, spec.queue)
    if spec.queue.kind == "kueue" and spec.autoscaled:
        # Without it Kueue (0.16 and later) refuses an object that Ray's autoscaler grows
        made["annotations"] = {"kueue.x-k8s.io/elastic-job": "true"}
    return made


def _queue_labels(spec: Cluster, queue: Queue) -> dict[str, str]:
    match queue.kind:
        case "kueue":
            return {KUEUE_QUEUE: queue.name} | _priority(queue, "kueue.x-k8s.io/priority-class")
        case "volcano":
            labels = {"volcano.sh/queue-name": queue.name}
            return labels | _priority(queue, "ray.io/priority-class-name")
        case "yunikorn":
            return {
                "ray.io/gang-scheduling-enabled": "true",
                "yunikorn.apache.org/app-id": spec.name,
                "yunikorn.apache.org/queue": queue.name,
            }


def _priority(queue: Queue, key: str) -> dict[str, str]:
    return {key: queue.priority} if queue.priority else {}
