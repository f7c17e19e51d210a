"""Contradictions inside one worker group, wherever it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster.groups import WorkerGroup

_HEADS = ("headgroup", "head")


def problems(group: WorkerGroup) -> Iterator[Problem]:
    """All of them; paths are relative to the group."""
    if group.name in _HEADS:
        yield Problem("name", f"the name {group.name!r} is the head's.", "Choose another.")
    least, most = group.nodes
    if group.replicas is not None and not least <= group.replicas <= most:
        yield Problem("replicas", f"replicas {group.replicas} is not within nodes {group.nodes}.")
