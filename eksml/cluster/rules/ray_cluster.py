"""A RayClusterSpec as the rules read it, whichever of the four kinds it lies in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from eksml.cluster.rules.field import Field

Version = tuple[int, int, int]

_VERSION = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?!\d)", re.ASCII)
_V2_ENV = "RAY_enable_autoscaler_v2"


@dataclass(frozen=True)
class Group:
    """The head, or a worker group."""

    field: Field
    """Its ``headGroupSpec`` or entry of ``workerGroupSpecs``."""
    name: str
    """``head``, or the group's name (empty if it has none)."""

    @cached_property
    def template(self) -> Field:
        """The pod template."""
        return self.field["template"]

    @cached_property
    def params(self) -> Field:
        """The arguments of ``ray start``."""
        return self.field["rayStartParams"]

    @cached_property
    def ray(self) -> Field:
        """Ray's container: the operator takes the first, whatever its name."""
        containers = self.template["spec"]["containers"]
        return next(iter(containers.items()), Field(None, f"{containers.path}.0"))

    def env(self, name: str) -> Field | None:
        """The variable of that name in Ray's container."""
        found = (entry for entry in self.ray["env"].items() if entry["name"].text == name)
        return next(found, None)


@dataclass(frozen=True)
class RayCluster:
    """A ``RayClusterSpec``, and what the rules need to know of the object around it."""

    spec: Field
    kind: str
    """The kind of the object that it lies in."""
    name: str
    """The cluster's name; empty where the operator makes one up."""
    annotations: Field
    gates: frozenset[str]
    """The operator's feature gates that are on."""

    @cached_property
    def head(self) -> Group:
        """The head's group."""
        return Group(self.spec["headGroupSpec"], "head")

    @cached_property
    def workers(self) -> list[Group]:
        """The worker groups."""
        groups = self.spec["workerGroupSpecs"].items()
        return [Group(group, group["groupName"].text) for group in groups]

    @cached_property
    def groups(self) -> list[Group]:
        """The head and the worker groups."""
        return [self.head, *self.workers]

    @cached_property
    def autoscaled(self) -> bool:
        """Whether Ray's autoscaler runs."""
        return self.spec["enableInTreeAutoscaling"].on

    @cached_property
    def v2_env(self) -> Field | None:
        """The head's variable that older operators need for autoscaler v2."""
        return self.head.env(_V2_ENV)

    @cached_property
    def says_v2(self) -> bool:
        """Whether autoscaler v2 runs and the specification itself says so."""
        return self.autoscaled and self.spec["autoscalerOptions"]["version"].text == "v2"

    @cached_property
    def v2(self) -> bool:
        """Whether autoscaler v2 runs, said by the specification or by the head's environment."""
        asked = self.v2_env is not None and self.v2_env["value"].text in ("1", "true")
        return self.says_v2 or (self.autoscaled and asked)

    @cached_property
    def version(self) -> Version | None:
        """``rayVersion``, if it is there and reads as one."""
        match = _VERSION.match(self.spec["rayVersion"].text)
        return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else None

    def older_than(self, version: Version) -> str:
        """Why the cluster's Ray can't be taken to be ``version`` or newer; empty if it can."""
        said = self.spec["rayVersion"]
        if not said.filled:
            return "rayVersion is not said"
        if self.version is None:
            return f"rayVersion {said.shown} is not a version"
        return f"rayVersion is {said.text}" if self.version < version else ""
