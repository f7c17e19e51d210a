"""Images are pinned, hold the Ray that is said, and fit the node's processor."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from eksml import Cluster, cpu, gpu, neuron
from eksml.cluster import Head, WorkerGroup
from eksml.cluster.image import arch_of, image_of, read_tag
from eksml.errors import InvalidSpec

PYTHON = f"py{sys.version_info.major}{sys.version_info.minor}"


def on_eks(*groups: WorkerGroup, **fields: Any) -> Cluster:
    return Cluster(name="x", backend="eks", ray_version="2.60.0", groups=groups, **fields)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("rayproject/ray", "no tag"),
        ("rayproject/ray:latest", "another image tomorrow"),
        ("rayproject/ray:latest-py311-gpu", "another image tomorrow"),
        ("rayproject/ray:nightly.260101.abc", "another image tomorrow"),
        ("localhost:5000/ray", "no tag"),
        ("Upper/case:1", "not a container image"),
        ("ray:1:2", "not a container image"),
        ("ray@sha256:abc", "not a container image"),
        ("", "not a container image"),
    ],
)
def test_an_image_that_may_change_is_refused(image: str, told: str) -> None:
    with pytest.raises(InvalidSpec, match=told):
        Cluster(name="x", image=image)
    with pytest.raises(InvalidSpec, match=rf"image.*{told}"):
        cpu(image=image)


@pytest.mark.parametrize(
    ("image", "ray", "python"),
    [
        ("rayproject/ray:2.60.0-py311-gpu", "2.60.0", "3.11"),
        ("1.dkr.ecr.us-east-1.amazonaws.com/ray-llm:2.60.0-py312-cu128", "2.60.0", "3.12"),
        ("rayproject/ray:2.60.0rc1", "2.60.0rc1", None),
        (f"localhost:5000/ray:2.60.0@sha256:{'a' * 64}", "2.60.0", None),
        ("team/trainer:1.4.2", None, None),
        ("team/trainer:1.4.2-ray2.60.0-py310", "2.60.0", "3.10"),
        ("team/trainer:v3-ray-2.60.0", "2.60.0", None),
        ("team/happy311:1", None, None),
        (f"team/trainer@sha256:{'a' * 64}", None, None),
    ],
)
def test_a_tag_tells_what_the_image_holds(image: str, ray: str | None, python: str | None) -> None:
    assert Cluster(name="x", image=image).image == image
    assert (read_tag(image).ray, read_tag(image).python) == (ray, python)


def test_an_image_with_another_ray_is_refused_once() -> None:
    with pytest.raises(InvalidSpec) as refused:
        on_eks(cpu(), cpu(name="b"), image="rayproject/ray:2.59.0-py311")
    (problem,) = refused.value.problems
    assert problem.path == "image"
    assert "holds Ray 2.59.0, and ray_version is 2.60.0" in str(problem)


def test_every_node_has_the_heads_python() -> None:
    with pytest.raises(InvalidSpec, match=r"groups\.0\.image: .* Python 3\.9, and the head has"):
        on_eks(cpu(image="team/worker:1-py39"))
    assert on_eks(cpu(image="team/worker:1-py39"), head=Head(image="team/head:1-py39"))


def test_the_default_is_rays_own_for_the_kind_of_node() -> None:
    cluster = on_eks(gpu("g6.12xlarge"), cpu(), cpu("m7g.large", name="arm"))
    gpus, plain, arm = (image_of(cluster, group) for group in cluster.groups)
    assert image_of(cluster, cluster.head) == plain == f"rayproject/ray:2.60.0-{PYTHON}"
    assert gpus == f"{plain}-gpu"
    assert arm == f"{plain}-aarch64"


def test_a_nodes_image_goes_before_the_clusters() -> None:
    cluster = on_eks(cpu(image="team/own:1"), cpu(name="b"), image="team/all:1")
    assert [image_of(cluster, group) for group in cluster.groups] == ["team/own:1", "team/all:1"]


def test_an_image_for_another_processor_is_refused() -> None:
    tag = f"rayproject/ray:2.60.0-{PYTHON}"
    with pytest.raises(InvalidSpec, match=r"groups\.0\.image: .* Add -aarch64"):
        on_eks(cpu("m7g.large", image=tag))
    with pytest.raises(InvalidSpec, match=r"groups\.0\.image: .* Take -aarch64 off"):
        on_eks(cpu("m7i.large", image=f"{tag}-aarch64"))
    assert arch_of(cpu(node_selector={"kubernetes.io/arch": "arm64"})) == "arm64"


def test_neuron_needs_an_image_since_ray_has_none() -> None:
    with pytest.raises(InvalidSpec, match=r"groups\.0\.image: is missing"):
        on_eks(neuron("inf2.xlarge"))
    assert on_eks(neuron("inf2.xlarge"), image="team/neuron:1")
