"""What an hour of the nodes costs that compute a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from eksml.batches.plan import Sizes
from eksml.cluster.preflight import Demand, Offer, preflight

if TYPE_CHECKING:
    from eksml.cluster import Cluster


def usd_per_node_hour(spec: Cluster | None, sizes: Sizes, offers: Sequence[Offer]) -> float | None:
    """US dollars; None where nodes are not paid for by the hour, as on this machine.

    The dearest of the groups that the workers can be placed on: a bound.
    """
    if spec is None or spec.backend != "eks":
        return None
    from eksml.cluster.cost import cost
    from eksml.cluster.fit import fit

    bundles = (sizes.resources,) * sizes.workers[0]
    placed = preflight(Demand(bundles, what="batch workers"), offers).workers
    prices = cost(fit(spec, spec.manifest()), spec.region).groups
    return max((one.each.usd for one in prices if one.group in placed), default=None)
