"""What AWS knows about an EKS cluster, beside what Kubernetes does: where pods can land, who they
are, what the account may start."""

from eksml.backends.eks.account import Account, ask
from eksml.backends.eks.create import (
    NodeGroupRequest,
    Place,
    Reservation,
    create_node_group,
    node_group_request,
    place_of,
    reservation_of,
)
from eksml.backends.eks.identity import identity_problems
from eksml.backends.eks.landing import Landing, landings
from eksml.backends.eks.nodegroups import node_groups
from eksml.backends.eks.nodepools import from_node_pool, node_pools
from eksml.backends.eks.quotas import QuotaRow, quota_rows
from eksml.backends.eks.source import NodeSource, Taint

__all__ = [
    "Account",
    "Landing",
    "NodeGroupRequest",
    "NodeSource",
    "Place",
    "QuotaRow",
    "Reservation",
    "Taint",
    "ask",
    "create_node_group",
    "from_node_pool",
    "identity_problems",
    "landings",
    "node_group_request",
    "node_groups",
    "node_pools",
    "place_of",
    "quota_rows",
    "reservation_of",
]
