"""What ``eksml doctor`` looks at. Nothing is started or left, but for the storage's folder."""

from __future__ import annotations

from eksml.cli.checks.finding import Answer, Check, Finding, look_at_all
from eksml.cli.checks.installation import INSTALLATION
from eksml.cli.checks.machine import MACHINE
from eksml.cli.checks.services import reachable

__all__ = [
    "Answer",
    "Check",
    "Finding",
    "all_checks",
    "cluster_checks",
    "look_at_all",
]


def all_checks(storage: str | None) -> tuple[Check, ...]:
    """Every check of this machine, in the order in which a person reads them."""
    return (*INSTALLATION, *MACHINE, *reachable(storage))


def cluster_checks(eks_cluster: str | None) -> tuple[Check, ...]:
    """Every check of the Kubernetes that is configured here; with ``eks_cluster``, of AWS too.

    Raises:
        ClusterError: no Kubernetes is configured.
    """
    from eksml.cli.checks.cluster import on_cluster
    from eksml.cli.checks.view import View

    return on_cluster(View.connect(), eks_cluster)
