"""Checks of KubeRay's operator: its version, its feature gates, its CRDs."""

from __future__ import annotations

from collections.abc import Callable

from eksml.backends.why.reason import Object, at
from eksml.cli.checks.finding import Finding
from eksml.cli.checks.workload import arguments, missing_pods, older, place_of, runs, version_of
from eksml.cluster.options import Operator
from eksml.cluster.vocabulary import GATES, ROCKSDB_GATE

KINDS = ("RayCluster", "RayJob", "RayService", "RayCronJob")
_INSTALL = (
    "helm upgrade --install kuberay-operator kuberay/kuberay-operator --version "
    f"{Operator().version}"
)
_NEW_FIELDS = (
    ("networkPolicy",),
    ("gcsFaultToleranceOptions", "backend"),
    ("workerGroupSpecs", "priority"),
)
"""Fields of RayCluster that older CRDs lack: helm does not upgrade CRDs."""


def operator(deployments: list[Object]) -> Finding:
    """The operator, and whether it is the version that manifests are rendered for."""
    found = _operator(deployments)
    if found is None:
        return Finding("fail", "no KubeRay operator runs", _INSTALL)
    version, place = version_of(found), place_of(found)
    if missing_pods(found):
        remedy = f"kubectl describe deployment -n {place.replace('/', ' ')}"
        return Finding("fail", f"{place} is not ready", remedy)
    if version is None:
        return Finding("warn", f"{place}, of an unknown version", "Name its image by a tag.")
    floor = Operator().version
    if older(version, floor):
        told = f"{version} ({place}); eksml renders for {floor}"
        return Finding("warn", told, f"{_INSTALL}; or say operator.version in the YAML.")
    return Finding("ok", f"{version} ({place})")


def feature_gates(deployments: list[Object]) -> Finding:
    """Which of the gates that are off by default are on."""
    found = _operator(deployments)
    if found is None:
        return Finding("warn", "no operator, no gates")
    on = gates_of(found)
    off = [gate for gate in GATES if gate not in on]
    told = f"on: {', '.join(on) or 'none'}"
    if not off:
        return Finding("ok", told)
    told = f"{told}; off: {', '.join(off)}"
    if ROCKSDB_GATE not in off:
        return Finding("ok", told)
    remedy = (
        f"Without it a head that dies takes the cluster along, unless it has a Redis: start the "
        f"operator with --feature-gates={ROCKSDB_GATE}=true."
    )
    return Finding("warn", told, remedy)


def gates_of(deployment: Object) -> list[str]:
    """The gates that the operator's arguments switch on, of those that are off by default."""
    words = arguments(deployment)
    told = [
        word.partition("=")[2] or (words[index + 1] if index + 1 < len(words) else "")
        for index, word in enumerate(words)
        if word.split("=")[0].lstrip("-") == "feature-gates"
    ]
    switches = dict(pair.split("=", 1) for text in told for pair in text.split(",") if "=" in pair)
    return [gate for gate in GATES if switches.get(gate, "").lower() == "true"]


def definitions(has: Callable[[str], bool], raycluster: Object | None) -> Finding:
    """Whether KubeRay's kinds are there, and of a schema that is new enough."""
    missing = [kind for kind in KINDS if not has(kind)]
    crds = (
        "kubectl apply --server-side -k "
        f"'github.com/ray-project/kuberay/ray-operator/config/crd?ref=v{Operator().version}'"
    )
    if missing:
        told = f"ray.io/v1 lacks {', '.join(missing)}"
        return Finding("warn" if missing == ["RayCronJob"] else "fail", told, crds)
    if lacking := _lacking(raycluster):
        told = f"RayCluster's schema is old: it lacks {', '.join(lacking)}"
        return Finding("fail", told, f"helm does not upgrade CRDs: {crds}")
    return Finding("ok", f"ray.io/v1: {', '.join(KINDS)}")


def _operator(deployments: list[Object]) -> Object | None:
    return runs(deployments, "kuberay-operator", "kuberay/operator")


def _lacking(raycluster: Object | None) -> list[str]:
    """New fields of RayCluster that the definition does not have."""
    if raycluster is None:
        return []
    versions = at(raycluster, "spec", "versions") or ()
    named = {str(version.get("name")): version for version in versions}
    spec = at(named.get("v1"), "schema", "openAPIV3Schema", "properties", "spec")
    return [".".join(path) for path in _NEW_FIELDS if not _has_field(spec, path)]


def _has_field(schema: Object | None, path: tuple[str, ...]) -> bool:
    for name in path:
        schema = at(schema, "items", "properties", name) or at(schema, "properties", name)
    return schema is not None
