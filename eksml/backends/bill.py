"""What a running cluster has cost so far: Ray knows how long its nodes lived, the specification
what they are."""

from __future__ import annotations

import time
from collections.abc import Iterable

from eksml.backends.dashboard import RayLife
from eksml.cluster import Cluster
from eksml.cluster.fit import fit
from eksml.cluster.groups import HEAD_GROUP
from eksml.cluster.usage import NodeLifetime, Receipt, receipt


def bill(spec: Cluster, lives: Iterable[RayLife]) -> Receipt:
    """The receipt of ``lives``, nodes of ``spec``.

    Where a group names several instance types it counts the one with which it costs most, and the
    head without an instance as the cheapest that holds it: as ``eksml plan`` does. Nodes of no
    group, and those of a head before this one, are not in it.
    """
    groups = {group.name: group for group in spec.groups}
    machines = {fitted.group: fitted.instance for fitted in fit(spec, spec.manifest()).groups}
    nodes = []
    for life in lives:
        group = groups.get(life.group)
        if group is None and life.group != HEAD_GROUP:
            continue
        nodes.append(
            NodeLifetime(
                instance=machines[life.group],
                market=group.market if group else "on-demand",
                started_s=life.started_s,
                ended_s=life.ended_s,
                group=life.group,
                share=1 / group.pods_per_node if group else 1.0,
            )
        )
    return receipt(nodes, now_s=time.time(), region=spec.region)
