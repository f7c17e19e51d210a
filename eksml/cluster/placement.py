"""Where the pods of a group may lie: zones, node labels, tolerations, reservations."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from eksml.cluster.names import Count, LabelKey, LabelValue
from eksml.cluster.problems import Refused, Spec
from eksml.errors import Problem

Market = Literal["on-demand", "spot", "reserved"]
Spread = Literal["zone", "host"]

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
ZONE = "topology.kubernetes.io/zone"
KARPENTER_CAPACITY = "karpenter.sh/capacity-type"
EKS_CAPACITY = "eks.amazonaws.com/capacityType"
KARPENTER_NODEPOOL = "karpenter.sh/nodepool"
EKS_NODEGROUP = "eks.amazonaws.com/nodegroup"

SELECTABLE = (
    KARPENTER_NODEPOOL,
    EKS_NODEGROUP,
    "kubernetes.io/arch",
)
"""Labels that nodes of EKS have without anybody's doing: what a selector may ask for."""
_SAID_BY_FIELDS = {
    INSTANCE_TYPE: "instance",
    ZONE: "zones",
    KARPENTER_CAPACITY: "market",
    EKS_CAPACITY: "market",
}
_RESERVATION = re.compile(r"cr-[0-9a-f]{8,17}")
_ZONE = re.compile(r"[a-z]{2}(-[a-z]+)+-\d[a-z]|[a-z]{2}(-[a-z]+)+-\d(-[a-z]+)+-\d[a-z]")


def _well_known(key: str) -> str:
    if field := _SAID_BY_FIELDS.get(key):
        raise ValueError(f"set by eksml from {field}; leave it out")
    if key not in SELECTABLE:
        raise ValueError(
            "not a label that nodes have by themselves, so that no node may ever match; "
            f"those are: {', '.join(SELECTABLE)}"
        )
    return key


def _reservation(name: str) -> str:
    if not _RESERVATION.fullmatch(name):
        raise ValueError("not a capacity reservation; write its id, such as cr-0123456789abcdef0")
    return name


def _zone(name: str) -> str:
    if not _ZONE.fullmatch(name):
        raise ValueError("not an availability zone; write its name, such as us-east-1a")
    return name


Zone = Annotated[str, AfterValidator(_zone)]
CapacityReservation = Annotated[str, AfterValidator(_reservation)]
NodeSelector = dict[Annotated[LabelKey, AfterValidator(_well_known)], LabelValue]


class Toleration(Spec):
    """Leave to lie on nodes with a taint. Those of GPU and Neuron nodes eksml adds itself."""

    key: LabelKey
    """The taint's key."""
    value: LabelValue | None = None
    """The taint's value. None: whatever it is."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect. None: every effect."""
    seconds: Count | None = None
    """How long it is tolerated; only with effect ``NoExecute``. None: for ever."""

    @model_validator(mode="after")
    def _seconds_need_no_execute(self) -> Toleration:
        if self.seconds is not None and self.effect != "NoExecute":
            told = f"{self.seconds} has no effect with effect {self.effect}."
            raise Refused([Problem("seconds", told, "Say effect: NoExecute, or leave it out.")])
        return self
