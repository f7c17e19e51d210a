"""What one EKS cluster and its account answer to a plan: nodes, quotas, identity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eksml.backends.eks.identity import identity_problems
from eksml.backends.eks.landing import Landing, landings
from eksml.backends.eks.nodegroups import node_groups
from eksml.backends.eks.nodepools import node_pools
from eksml.backends.eks.quotas import QuotaRow, quota_rows
from eksml.errors import Problem

if TYPE_CHECKING:
    from eksml.cluster import Cluster
    from eksml.cluster.quota import VcpuQuota


@dataclass(frozen=True)
class Account:
    """The answer. ``str()`` is for a terminal."""

    cluster: str
    """The EKS cluster's name."""
    landings: tuple[Landing, ...]
    quotas: tuple[QuotaRow, ...]
    identity: tuple[Problem, ...]

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps the cluster from starting there."""
        nowhere = [
            Problem(one.group, one.problem, one.remedy) for one in self.landings if not one.ok
        ]
        short = [row.problem for row in self.quotas if row.problem]
        return (*nowhere, *short, *self.identity)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "cluster": self.cluster,
            "ok": not self.problems,
            "problems": [asdict(problem) for problem in self.problems],
            "landings": [asdict(landing) for landing in self.landings],
            "quotas": [asdict(row) for row in self.quotas],
        }

    def __str__(self) -> str:
        return "\n".join([f"On EKS cluster {self.cluster}", *(f"  {one}" for one in self._lines())])

    def _lines(self) -> Iterator[str]:
        yield from map(str, self.landings)
        for row in self.quotas:
            told = f"{row.name} ({row.code}): {row.at_start} to {row.at_most} vCPUs needed"
            yield str(row.problem or row.warning or f"{told}, the account has {row.applied:g}.")
        yield from map(str, self.identity)


def ask(spec: Cluster, quotas: Iterable[VcpuQuota], cluster: str) -> Account:
    """Ask AWS whether ``spec`` can be had on the EKS cluster named ``cluster``.

    ``quotas`` are those of its plan. NodePools that are there already count if the kubeconfig
    leads to that cluster: Kubernetes knows them, AWS does not.

    Raises:
        ClusterNotUp: there is no such EKS cluster.
        InvalidSpec: the specification cannot be rendered.
        ClusterError: AWS or Kubernetes refuses, or does not answer.
    """
    sources = [*node_groups(cluster, spec.region), *node_pools(cluster, spec.region)]
    return Account(
        cluster,
        tuple(landings(spec, sources)),
        tuple(quota_rows(quotas, spec.region)),
        tuple(identity_problems(spec, cluster)),
    )
