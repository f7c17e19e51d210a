"""Kubernetes manifests of a specification: pure functions, plain dicts, always the same order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.ray_cluster import ray_cluster
from eksml.cluster.render.ray_cron import ray_cron_job
from eksml.cluster.render.ray_job import ray_job
from eksml.cluster.render.ray_service import ray_service
from eksml.cluster.render.surroundings import surroundings
from eksml.cluster.workloads import RayCronSpec, RayJobSpec, RayServiceSpec

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster

__all__ = [
    "Workload",
    "objects",
    "ray_cluster",
    "ray_cron_job",
    "ray_job",
    "ray_object",
    "ray_service",
    "surroundings",
]

Workload = RayJobSpec | RayServiceSpec | RayCronSpec


def objects(spec: Cluster, workload: Workload | None = None) -> list[dict[str, Any]]:
    """Everything that ``kubectl apply`` needs, in the order in which it must be applied.

    The surroundings come first, since a Ray object whose service account, claim or queue is
    missing starts nothing and says so nowhere. The Ray object comes last: a RayCluster, or that of
    ``workload``.

    Raises:
        InvalidSpec: the Ray object breaks a rule of KubeRay; with every problem.
    """
    return [*surroundings(spec), ray_object(spec, workload)]


def ray_object(spec: Cluster, workload: Workload | None = None) -> dict[str, Any]:
    """The RayJob, RayService or RayCronJob of ``workload``; without one, the RayCluster.

    Raises:
        InvalidSpec: it breaks a rule of KubeRay; with every problem.
    """
    match workload:
        case None:
            return ray_cluster(spec)
        case RayJobSpec():
            return ray_job(spec, workload)
        case RayServiceSpec():
            return ray_service(spec, workload)
        case RayCronSpec():
            return ray_cron_job(spec, workload)
