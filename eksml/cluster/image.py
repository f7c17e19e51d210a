"""Container images: pinned, with the Ray and the Python that their tag tells."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

if TYPE_CHECKING:
    from eksml.cluster.catalogue import Arch
    from eksml.cluster.groups import Node
    from eksml.cluster.spec import Cluster

_IMAGE = re.compile(
    r"(?P<repository>([a-z0-9][a-z0-9.-]*(:\d+)?/)?[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*)"
    r"(:(?P<tag>[\w][\w.-]{0,127}))?"
    r"(@sha256:(?P<digest>[0-9a-f]{64}))?"
)
_FLOATING = ("latest", "nightly")
_RAYS_TAG = re.compile(r"(\d+\.\d+\.\d+(?:rc\d+)?)(?=[.-]|$)")
_RAY_IN_TAG = re.compile(r"ray[-_.]?v?(\d+\.\d+\.\d+(?:rc\d+)?)(?=[.-]|$)")
_PYTHON = re.compile(r"(?:^|[-_.])py(3\d{1,2})(?=[-_.]|$)")
_RAYS_REPOSITORIES = ("ray", "ray-ml", "ray-llm")


@dataclass(frozen=True)
class Tag:
    """What the tag of an image tells."""

    ray: str | None
    """Ray's version, such as ``2.60.0``. None: it does not say."""
    python: str | None
    """Python's version, such as ``3.11``. None: it does not say."""
    arm: bool
    """Whether it is Ray's own image for arm64, whose tags end with ``-aarch64``."""


def read_tag(image: str) -> Tag:
    """What the tag of a valid image tells."""
    match = _IMAGE.fullmatch(image)
    assert match, image
    tag = match["tag"] or ""
    # A version in front is Ray's only where the image is Ray's own: in trainer:1.4.2 it is not
    own = match["repository"].rpartition("/")[2] in _RAYS_REPOSITORIES
    ray = (own and _RAYS_TAG.match(tag)) or _RAY_IN_TAG.search(tag)
    python = _PYTHON.search(tag)
    return Tag(
        ray=ray[1] if ray else None,
        python=f"{python[1][0]}.{python[1][1:]}" if python else None,
        arm=tag.endswith("-aarch64"),
    )


def image_of(cluster: Cluster, node: Node) -> str:
    """The image of a node on EKS: its own, the cluster's, or Ray's public one.

    Ray's is of the Ray that the cluster says and of the Python that runs here, so that functions
    that are sent there can be unpacked: ``rayproject/ray:2.60.0-py311-gpu``.
    """
    if said := node.image or cluster.image:
        return said
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return default_image(cluster.ray, python, gpu=_has_gpus(node), arm=arch_of(node) == "arm64")


def default_image(ray: str, python: str, *, gpu: bool, arm: bool) -> str:
    """Ray's own public image: ``rayproject/ray:2.60.0-py311-gpu``."""
    tag = f"{ray}-py{python.replace('.', '')}{'-gpu' if gpu else ''}{'-aarch64' if arm else ''}"
    return f"rayproject/ray:{tag}"


def arch_of(node: Node) -> Arch:
    """The processors of a node on EKS, as in ``kubernetes.io/arch``: those of its instance; else
    what its ``node_selector`` says; else ``amd64``, which then has to be selected, since an image
    for one does not run on the other."""
    from eksml.cluster.catalogue import instances

    for name in node.instances:
        if name in instances():
            return instances()[name].arch
    said = getattr(node, "node_selector", {}).get("kubernetes.io/arch")
    return "arm64" if said == "arm64" else "amd64"


def is_rays_own(image: str) -> bool:
    """Whether Ray publishes it: its tags are for one kind of processor each."""
    return image.startswith("rayproject/") or read_tag(image).arm


def _has_gpus(node: Node) -> bool:
    from eksml.cluster.catalogue import instances
    from eksml.cluster.head import Head

    if node.gpus is not None or isinstance(node, Head):
        return bool(node.gpus)
    known = instances()
    return any(known[name].gpu is not None for name in node.instances if name in known)


def _pinned(image: str) -> str:
    match = _IMAGE.fullmatch(image)
    if not match:
        raise ValueError("not a container image; write such as rayproject/ray:2.60.0-py311")
    if match["digest"]:
        return image
    if not match["tag"]:
        raise ValueError("has no tag, and would be another image tomorrow; add a tag or a digest")
    if any(word in re.split(r"[-_.]", match["tag"]) for word in _FLOATING):
        raise ValueError("is another image tomorrow; name a version or a digest")
    return image


Image = Annotated[str, AfterValidator(_pinned)]
