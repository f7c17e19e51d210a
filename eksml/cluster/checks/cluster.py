"""Contradictions between the parts of a cluster, wherever it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from eksml.cluster.checks.group import mount_problems
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup
    from eksml.cluster.head import Head
    from eksml.cluster.spec import Cluster


def problems(cluster: Cluster) -> Iterator[Problem]:
    """All of them."""
    counts = Counter(group.name for group in cluster.groups)
    if doubled := [name for name, count in counts.items() if count > 1]:
        told = f"more than one is named {', '.join(doubled)}."
        yield Problem("groups", told, "Give each a name of its own.")
    yield from mount_problems(cluster.mounts)
    for path, node in nodes(cluster):
        taken = {mount.path: index for index, mount in enumerate(cluster.mounts)}
        for index, mount in enumerate(node.mounts):
            if mount.path in taken:
                told = f"{mount.path!r} is the path of the cluster's mounts.{taken[mount.path]}."
                yield Problem(f"{path}.mounts.{index}.path", told, "Choose another.")


def nodes(cluster: Cluster) -> Iterator[tuple[str, WorkerGroup | Head]]:
    """The head and the groups, each with its path."""
    yield "head", cluster.head
    for index, group in enumerate(cluster.groups):
        yield f"groups.{index}", group
