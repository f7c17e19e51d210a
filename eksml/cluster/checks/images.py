"""Do the images fit the nodes, the Ray that is said, and each other?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eksml.cluster.catalogue import instances
from eksml.cluster.checks.cluster import nodes
from eksml.cluster.image import Tag, arch_of, image_of, is_rays_own, read_tag
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.groups import Node
    from eksml.cluster.spec import Cluster


def problems(cluster: Cluster) -> Iterator[Problem]:
    """All of them; an image that several nodes share is told once."""
    told: set[Problem] = set()
    for path, node in nodes(cluster):
        for problem in _node_problems(cluster, path, node):
            if problem not in told:
                told.add(problem)
                yield problem


def _node_problems(cluster: Cluster, path: str, node: Node) -> Iterator[Problem]:
    at = f"{path}.image" if node.image or not cluster.image else "image"
    if not (node.image or cluster.image) and _has_neuron(node):
        told = "is missing: Ray publishes none with the Neuron tools."
        yield Problem(at, told, "Name one, such as AWS's Neuron image with Ray in it.")
        return
    image = image_of(cluster, node)
    tag = read_tag(image)
    if tag.ray not in (None, cluster.ray):
        told = f"{image!r} holds Ray {tag.ray}, and ray_version is {cluster.ray}."
        yield Problem(at, told, "Make them equal.")
    yield from _python(cluster, at, image, tag)
    arch = arch_of(node)
    if is_rays_own(image) and tag.arm != (arch == "arm64"):
        told = f"{image!r} is not for {arch}, which the node is."
        remedy = "Add -aarch64 to the tag." if arch == "arm64" else "Take -aarch64 off the tag."
        yield Problem(at, told, remedy)


def _python(cluster: Cluster, at: str, image: str, tag: Tag) -> Iterator[Problem]:
    """Ray refuses nodes whose Python differs from the head's."""
    heads = read_tag(image_of(cluster, cluster.head)).python
    if tag.python and heads and tag.python != heads:
        told = f"{image!r} holds Python {tag.python}, and the head has {heads}."
        yield Problem(at, told, "Use one Python everywhere.")


def _has_neuron(node: Node) -> bool:
    known = instances()
    return bool(node.neuron_cores) or any(
        known[name].neuron is not None for name in node.instances if name in known
    )
