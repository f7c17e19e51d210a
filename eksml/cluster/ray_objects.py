"""Where the cluster is in each kind of KubeRay's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def cluster_spec_of(item: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The RayClusterSpec inside a RayCluster, RayJob, RayService or RayCronJob.

    None for every other kind, and for a job that runs on a cluster that is there already.
    """
    spec: Mapping[str, Any] = item.get("spec") or {}
    match item.get("kind"):
        case "RayCluster":
            return spec
        case "RayJob":
            return spec.get("rayClusterSpec")
        case "RayService":
            return spec.get("rayClusterConfig")
        case "RayCronJob":
            return (spec.get("jobTemplate") or {}).get("rayClusterSpec")
    return None
