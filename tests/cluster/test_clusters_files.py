"""The clusters in ``clusters/``: each can be read at a glance, and applied as it is rendered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crd import needs_crds, violations
from kinds import assert_pod, assert_valid, nulls

from eksml import Cluster
from eksml.cluster.render import objects
from eksml.cluster.rules import check

CLUSTERS = Path(__file__).resolve().parents[2] / "clusters"
FILES = sorted(CLUSTERS.glob("*.yaml"))
EKS = [file for file in FILES if "backend: eks" in file.read_text()]

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
every_eks_file = pytest.mark.parametrize("file", EKS, ids=lambda file: file.stem)


def templates(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield manifest["spec"]["headGroupSpec"]["template"]
    for group in manifest["spec"]["workerGroupSpecs"]:
        yield group["template"]


def test_there_is_a_cluster_for_each_kind_of_work() -> None:
    assert {file.stem for file in FILES} >= {
        *("laptop", "laptop-gpu", "cpu-small", "gpu-train", "gpu-spot-train"),
        *("neuron-train", "neuron-serve", "llm-serve", "stream", "notebooks"),
    }


@every_file
def test_a_file_is_short_says_what_it_is_for_and_is_named_like_its_cluster(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert len(lines) < 40
    assert lines[0].startswith("# ")
    assert max(map(len, lines)) <= 100
    assert Cluster.load(file).name == file.stem


@every_file
def test_a_file_survives_the_way_through_python(file: Path) -> None:
    spec = Cluster.load(file)
    assert Cluster.from_yaml(spec.to_yaml()) == spec


@needs_crds
@every_eks_file
def test_the_manifest_is_one_that_kuberay_takes(file: Path) -> None:
    spec = Cluster.load(file)
    manifest = spec.manifest()
    assert violations(manifest) == []
    assert check(manifest, gates=spec.operator.gates) == []


@every_eks_file
def test_the_pods_are_pods(file: Path) -> None:
    for template in templates(Cluster.load(file).manifest()):
        assert_pod(template)


@every_eks_file
def test_everything_around_it_is_valid_and_the_ray_object_comes_last(file: Path) -> None:
    *around, ray = objects(Cluster.load(file))
    for made in around:
        assert_valid(made)
    assert ray["kind"] == "RayCluster"
    assert not list(nulls([*around, ray]))


@every_eks_file
def test_pods_mount_only_claims_that_are_made_here_or_that_the_file_names(file: Path) -> None:
    spec = Cluster.load(file)
    everything = objects(spec)
    made = {o["metadata"]["name"] for o in everything if o["kind"] == "PersistentVolumeClaim"}
    every = (*spec.mounts, *spec.head.mounts, *(m for g in spec.groups for m in g.mounts))
    named = {mount.claim for mount in every if mount.kind in ("fsx", "claim")}
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for template in templates(everything[-1])
        for volume in template["spec"].get("volumes", ())
        if "persistentVolumeClaim" in volume
    }
    assert mounted == made | named


@every_eks_file
def test_the_same_file_runs_on_this_machine_when_its_backend_says_local(file: Path) -> None:
    text = file.read_text().replace("backend: eks", "backend: local")
    assert Cluster.from_yaml(text).backend == "local"
