"""The RayService: Serve applications that stay up while they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.cluster.render.checked import checked
from eksml.cluster.render.metadata import metadata
from eksml.cluster.render.ray_cluster import cluster_spec
from eksml.cluster.vocabulary import RAY_API
from eksml.cluster.yaml import dump_yaml
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.cluster.spec import Cluster
    from eksml.cluster.workloads import RayServiceSpec

_UPGRADES = {
    "incremental": "NewClusterWithIncrementalUpgrade",
    "new-cluster": "NewCluster",
    "none": "None",
}


def ray_service(spec: Cluster, service: RayServiceSpec) -> dict[str, Any]:
    """The RayService that serves ``service`` on clusters of ``spec``, and is named like it.

    Raises:
        InvalidSpec: two clusters would share one claim, or a rule of KubeRay; every problem.
    """
    if spec.state and spec.state.claim and service.upgrade != "none":
        told = f"{spec.state.claim!r} would be the heads' of two clusters during an upgrade."
        problem = Problem("head_state.claim", told, "Say a size instead, or upgrade: none.")
        raise InvalidSpec([problem], subject=f"the RayService {spec.name!r}")
    manifest = {
        "apiVersion": RAY_API,
        "kind": "RayService",
        "metadata": metadata(spec),
        "spec": _spec(spec, service),
    }
    return checked(spec, manifest)


def _spec(spec: Cluster, service: RayServiceSpec) -> dict[str, Any]:
    config = service.serve_config
    made: dict[str, Any] = {
        "serveConfigV2": config if isinstance(config, str) else dump_yaml(config),
        "upgradeStrategy": _upgrade(service),
        "rayClusterDeletionDelaySeconds": service.old_cluster_delay_s,
    }
    if spec.groups and not spec.head.cpus:
        # No replica can lie on such a head, so that every request to it would be passed on
        made["excludeHeadPodFromServeSvc"] = True
    return made | {"rayClusterConfig": cluster_spec(spec)}


def _upgrade(service: RayServiceSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"type": _UPGRADES[service.upgrade]}
    if service.upgrade == "incremental":
        made["clusterUpgradeOptions"] = {
            "gatewayClassName": service.gateway_class,
            "maxSurgePercent": service.surge,
            "stepSizePercent": service.step,
            "intervalSeconds": service.interval_s,
        }
    return made
