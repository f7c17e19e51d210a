"""What the account may start, beside what a plan needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eksml.backends.eks.aws import client, translated
from eksml.errors import ClusterNotUp, Problem

if TYPE_CHECKING:
    from eksml.cluster.quota import VcpuQuota

_SERVICE = "ec2"


@dataclass(frozen=True)
class QuotaRow:
    """One quota of EC2, in vCPUs."""

    code: str
    name: str
    at_start: int
    """What the plan needs at the start."""
    at_most: int
    """What it may need."""
    applied: float
    """What the account has, all of it: others may use some."""

    @property
    def problem(self) -> Problem | None:
        """Set if the cluster cannot even start."""
        if self.at_start <= self.applied:
            return None
        told = f"{self.name}: {self.at_start} vCPUs at the start, the account has {self.applied:g}."
        return Problem(self.code, told, f"Ask for {self.at_most} in Service Quotas.")

    @property
    def warning(self) -> str:
        """Set if it can start but not grow to its most; a sentence, or empty."""
        if self.problem or self.at_most <= self.applied:
            return ""
        return (
            f"{self.name} ({self.code}): the cluster may grow to {self.at_most} vCPUs, the account "
            f"has {self.applied:g}."
        )


def quota_rows(needed: Iterable[VcpuQuota], region: str | None = None) -> list[QuotaRow]:
    """The quotas of a plan (``plan.quotas``) beside those that the account has in a region.

    Raises:
        ClusterError: AWS refuses, or does not answer.
    """
    wanted = list(needed)
    return beside(wanted, applied([quota.code for quota in wanted], region))


def beside(needed: Iterable[VcpuQuota], applied: Mapping[str, float]) -> list[QuotaRow]:
    """The rows from what is needed and what there is. Pure."""
    return [
        QuotaRow(one.code, one.name, one.vcpus.start, one.vcpus.max, applied[one.code])
        for one in needed
    ]


def applied(codes: Iterable[str], region: str | None = None) -> dict[str, float]:
    """The value of each quota of EC2: the account's own, else AWS' default.

    Raises:
        ClusterError: AWS refuses, or does not answer.
    """
    quotas = client("service-quotas", region)
    values = {}
    for code in codes:
        asked = {"ServiceCode": _SERVICE, "QuotaCode": code}
        try:
            with translated(f"quota {code}"):
                found = quotas.get_service_quota(**asked)["Quota"]
        except ClusterNotUp:  # never changed: only the default is there
            with translated(f"default of quota {code}"):
                found = quotas.get_aws_default_service_quota(**asked)["Quota"]
        values[code] = float(found["Value"])
    return values
