"""Why EC2 gives no instance, out of the errors that Karpenter and EKS pass on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eksml.backends.why.reason import Cause, Kind, words

_ZONE = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-\d[a-z]\b")
_INSTANCE = re.compile(r"\b[a-z][a-z0-9]*(?:-[a-z0-9]+)?\.(?:\d*x?large|medium|small|metal\S*)\b")


@dataclass(frozen=True)
class _Refusal:
    """An error of EC2 by the codes under which it comes."""

    pattern: re.Pattern[str]
    kind: Kind
    text: str
    remedy: str


def _refusal(pattern: str, kind: Kind, text: str, remedy: str) -> _Refusal:
    return _Refusal(re.compile(pattern, re.IGNORECASE), kind, text, remedy)


_REFUSALS = (
    _refusal(
        "VcpuLimitExceeded|MaxSpotInstanceCountExceeded|vCPU limit|InstanceLimitExceeded",
        "quota",
        "the account's EC2 quota does not allow {instances}",
        "Ask for more in Service Quotas; `eksml plan` names the quota and the amount.",
    ),
    _refusal(
        "ReservationCapacityExceeded|capacity reservation",
        "capacity",
        "the capacity reservation has no {instances} left{zone}",
        "Wait until its nodes are free, or ask for fewer.",
    ),
    _refusal(
        "InsufficientInstanceCapacity|UnfulfillableCapacity|InsufficientCapacity|"
        "insufficient capacity|unavailable during launch|SpotMaxPriceTooLow",
        "capacity",
        "EC2 has no {instances} to give{zone}",
        "Allow more zones or instance types, another market, or reserve capacity.",
    ),
    _refusal(
        "InsufficientFreeAddresses",
        "network",
        "the subnets have no free addresses for {instances}{zone}",
        "Add subnets or a secondary CIDR to the VPC.",
    ),
    _refusal(
        "UnauthorizedOperation|AccessDenied|not authorized|AuthFailure",
        "node",
        "the node role or Karpenter's role may not start {instances}",
        "Compare its policy with what `eksml plan` lists under IAM.",
    ),
)


def refused(message: str) -> Cause | None:
    """The cause in one of EC2's errors; None if it is none that is known."""
    for one in _REFUSALS:
        if one.pattern.search(message):
            zones = ", ".join(sorted(set(_ZONE.findall(message))))
            instances = ", ".join(sorted(set(_INSTANCE.findall(message))))
            text = one.text.format(
                instances=instances or "such instances", zone=f" in {zones}" if zones else ""
            )
            said = words(message, 240)
            return Cause(one.kind, f"waits for a node, and {text}: «{said}»", one.remedy)
    return None
