"""Kubernetes objects as plain dicts, and how to name one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eksml.cluster.vocabulary import RAY_API

Object = Mapping[str, Any]
"""An object of the API in camelCase, as ``kubectl get -o json`` shows it."""

CLUSTER_LABEL = "eksml.io/cluster"
"""On everything that ``up`` created, with the cluster's name: what ``down`` may remove."""
SPEC_ANNOTATION = "eksml.io/spec"
"""On the RayCluster: the specification's YAML."""
OBJECTS_ANNOTATION = "eksml.io/objects"
"""On the RayCluster: the other objects that ``up`` created, as JSON."""
UP_ANNOTATION = "eksml.io/up"
"""On the RayCluster or RayJob: the call that created it."""


@dataclass(frozen=True)
class Ref:
    """Which object: enough to read or delete it."""

    api_version: str
    kind: str
    name: str
    namespace: str | None = None
    """None for an object outside namespaces, or in the client's own namespace."""

    @classmethod
    def of(cls, thing: Object) -> Ref:
        """The reference of an object."""
        metadata = thing["metadata"]
        return cls(thing["apiVersion"], thing["kind"], metadata["name"], metadata.get("namespace"))

    def __str__(self) -> str:
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"


def ray_cluster_ref(name: str, namespace: str) -> Ref:
    """The reference of a RayCluster."""
    return Ref(RAY_API, "RayCluster", name, namespace)
