"""Rendering as the tests want it: nothing leaves that an API server would not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from crd import CRDS, violations
from kinds import assert_pod

from eksml import Cluster
from eksml.cluster import WorkerGroup
from eksml.cluster.render import Workload, ray_object

NEURON_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/neuron-ray:2.60.0"


def eks(*groups: WorkerGroup, **fields: Any) -> Cluster:
    """A cluster on EKS, named ``demo``, in the namespace ``team``."""
    named: dict[str, Any] = {"name": "demo", "namespace": "team", "ray_version": "2.60.0"}
    return Cluster(backend="eks", groups=groups, **(named | fields))


def rendered(spec: Cluster, workload: Workload | None = None) -> Any:
    """The Ray object of a specification, held against the CRDs and the client's models."""
    manifest = ray_object(spec, workload)
    if CRDS.is_dir():
        assert violations(manifest) == []
    for template in templates(manifest):
        assert_pod(template)
    return manifest


def cluster_spec(*groups: WorkerGroup, **fields: Any) -> Any:
    """The ``spec`` of the RayCluster with these groups."""
    return rendered(eks(*groups, **fields))["spec"]


def worker(group: WorkerGroup, **fields: Any) -> Any:
    """The group's entry in ``workerGroupSpecs``."""
    return cluster_spec(group, **fields)["workerGroupSpecs"][0]


def pod(group: WorkerGroup, **fields: Any) -> Any:
    """The ``spec`` of a group's pods."""
    return worker(group, **fields)["template"]["spec"]


def container(group: WorkerGroup, **fields: Any) -> Any:
    """The Ray container of a group's pods."""
    return pod(group, **fields)["containers"][0]


def templates(value: Any) -> Iterator[Any]:
    """Every pod template in a manifest."""
    if isinstance(value, list):
        for item in value:
            yield from templates(item)
    elif isinstance(value, dict):
        for field, inner in value.items():
            if field in ("template", "submitterPodTemplate"):
                yield inner
            else:
                yield from templates(inner)
