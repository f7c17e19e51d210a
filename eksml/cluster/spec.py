"""The specification of a cluster: one model, the same in Python and in YAML."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from eksml.cluster.groups import HEAD_GROUP, NODE_GROUP_LABEL, Count, Name, Node, WorkerGroup
from eksml.cluster.problems import Spec
from eksml.cluster.yaml import dump_yaml, load_yaml
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    from eksml.backends import Running

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_YOURS = ("RAY_AUTH_", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


def _env_name(name: str) -> str:
    if not _ENV_NAME.fullmatch(name):
        raise ValueError("not a name of an environment variable")
    if name.startswith(_NOT_YOURS):
        raise ValueError("set by eksml: token authentication is always on")
    return name


def _env_value(value: str) -> str:
    if "\0" in value:
        raise ValueError("holds a NUL character")
    return value


class Head(Node):
    """The node that runs Ray's control plane, and drivers of jobs."""

    cpus: Count | None = 2
    """CPUs for jobs' drivers and tasks. 0 keeps tasks away from the head."""
    dashboard_port: Annotated[int, Field(strict=True, ge=1024, le=65535)] | None = None
    """Port of the dashboard and of the Jobs API on this machine. None: a free one."""

    @model_validator(mode="after")
    def _sized(self) -> Head:
        if missing := [f for f in ("cpus", "gpus", "neuron_cores") if getattr(self, f) is None]:
            raise ValueError(f"{' and '.join(missing)} of the head must be a number")
        return self

    def node_labels(self) -> dict[str, str]:
        """All labels of the head, Ray's own included."""
        return {**self.labels, NODE_GROUP_LABEL: HEAD_GROUP}


class Cluster(Spec):
    """What a cluster shall be. Pure data: nothing starts before :meth:`up`."""

    name: Name
    """The cluster's name, unique on this machine or in its namespace."""
    backend: Literal["local", "eks"] = "local"
    """Where it runs: ``local`` starts each node as processes of this machine."""
    head: Head = Head()
    """The head node."""
    groups: tuple[WorkerGroup, ...] = ()
    """The worker groups."""
    env: dict[
        Annotated[str, AfterValidator(_env_name)], Annotated[str, AfterValidator(_env_value)]
    ] = Field(default_factory=dict)
    """Environment variables of every node. The caller's own RAY_… variables do not travel."""
    notice_s: Annotated[int, Field(strict=True, ge=1)] = 20
    """Seconds between the notice of a reclaim and the kill. (EC2 gives 120 on spot.)"""

    @model_validator(mode="after")
    def _unique_groups(self) -> Cluster:
        counts = Counter(group.name for group in self.groups)
        if doubled := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"groups: more than one is named {', '.join(doubled)}")
        return self

    def group(self, name: str) -> WorkerGroup:
        """The group of that name.

        Raises:
            InvalidSpec: there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        names = ", ".join(group.name for group in self.groups) or "none"
        problem = Problem(
            "group", f"{name!r} is not a group of cluster {self.name!r}.", f"Its groups: {names}."
        )
        raise InvalidSpec([problem], subject="the call")

    @classmethod
    def from_yaml(cls, source: str | Path) -> Cluster:
        """From YAML text, or from the file at a ``Path``.

        Raises:
            InvalidSpec: with every problem, each with its path.
        """
        if isinstance(source, Path):
            return cls.load(source)
        return cls(**load_yaml(source, "the YAML text"))

    @classmethod
    def load(cls, path: str | Path) -> Cluster:
        """From a YAML file.

        Raises:
            InvalidSpec: the file cannot be read, or with every problem in it.
        """
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            problem = Problem(str(path), f"cannot be read: {error}.")
            raise InvalidSpec([problem], subject="the cluster's file") from error
        return cls(**load_yaml(text, str(path)))

    def to_yaml(self) -> str:
        """As YAML that :meth:`from_yaml` reads back to an equal specification."""
        fields: dict[str, Any] = self.model_dump(mode="json", exclude_defaults=True)
        if self.groups:
            fields["groups"] = [{"name": group["name"]} | group for group in fields["groups"]]
        return dump_yaml(fields)

    def up(
        self, *, detach: bool = False, timeout_s: float = 180, progress: bool | None = None
    ) -> Running:
        """Start it and wait until all its nodes are there. See :func:`eksml.backends.up`.

        This is the one upward call of the package: the noun that users hold offers the verb.
        """
        from eksml import backends

        return backends.up(self, detach=detach, timeout_s=timeout_s, progress=progress)
