"""What every backend gives: a running cluster that has a Ray Jobs API."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from eksml.cluster import Cluster, Offer, offers_of
from eksml.cluster.table import table
from eksml.cluster.usage import Receipt


@dataclass(frozen=True)
class NodeStatus:
    """One node, as backend and Ray see it."""

    id: str
    """eksml's name of the node: ``head``, ``gpu-3``. A replacement gets a new one."""
    group: str
    phase: str
    """``starting``, ``running``, ``draining``; ``lost`` if Ray no longer counts it."""
    ip: str
    pid: int | None = None
    """Of the node's ``ray start``; None where nodes are not processes of this machine."""
    node_id: str = ""
    """Ray's id of the node, once it has joined."""
    resources: dict[str, float] = field(default_factory=dict)
    """All that Ray gives out there, used or not."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Status:
    """A cluster at one moment."""

    name: str
    phase: str
    """``starting``, ``running``, ``stopping`` or ``failed``."""
    jobs_address: str
    nodes: tuple[NodeStatus, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        rows = (
            (
                node.id,
                node.group,
                node.phase,
                node.ip,
                str(node.pid or ""),
                _amounts(node.resources),
            )
            for node in self.nodes
        )
        titles = ("node", "group", "state", "ip", "pid", "resources")
        return f"{self.name}: {self.phase}, {self.jobs_address}\n{table(titles, rows)}"


class Running(ABC):
    """A cluster that is up. As a context manager, it goes down at the end of the block that
    started it; a block around a cluster that was up before leaves it up."""

    name: str
    """The cluster's name."""
    spec: Cluster | None
    """What it was asked to be; None for a Ray that eksml did not start."""
    token: str
    """Ray's token. Not to be printed or logged."""
    started_here: bool = False
    """Whether this very call of ``up`` started it."""

    @property
    @abstractmethod
    def address(self) -> str:
        """GCS address for ``ray.init`` and ``RAY_ADDRESS``; empty where it is not reachable.

        Raises:
            ClusterNotUp: it is gone.
        """

    @property
    @abstractmethod
    def jobs_address(self) -> str:
        """URL of the dashboard and the Jobs API.

        Raises:
            ClusterNotUp: it is gone.
        """

    def headers(self) -> dict[str, str]:
        """HTTP headers that the Jobs API wants:
        ``JobSubmissionClient(running.jobs_address, headers=running.headers())``."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @abstractmethod
    def env(self) -> dict[str, str]:
        """The variables under which ``ray job submit`` and ``ray.init()`` find it in a shell."""

    @abstractmethod
    def status(self) -> Status:
        """The cluster and its nodes now.

        Raises:
            ClusterNotUp: it is gone.
        """

    @abstractmethod
    def scale(self, group: str, num_nodes: int) -> None:
        """Ask for that many nodes of a group; returns before they are there.

        Raises:
            InvalidSpec: no such group, or outside its ``nodes`` range.
            ClusterNotUp: it is gone.
        """

    def receipt(self) -> Receipt | None:
        """Node hours and cost so far; None where nodes are not paid for.

        Raises:
            ClusterError: it cannot be told.
        """
        return None

    @abstractmethod
    def down(self) -> None:
        """End all of it and remove its files. Doing it twice is fine."""

    def nodes(self) -> tuple[NodeStatus, ...]:
        """The nodes now; those of ``status()``."""
        return self.status().nodes

    def offers(self) -> tuple[Offer, ...]:
        """What preflight may count on: the specification's groups at their max, else the nodes."""
        if self.spec is not None:
            return offers_of(self.spec)
        return tuple(Offer(node.resources, node.labels, node.group) for node in self.nodes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.started_here:
            self.down()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


class Backend(Protocol):
    """Where clusters run. This is the whole surface."""

    def up(
        self, cluster: Cluster, *, detach: bool, timeout_s: float | None, progress: bool
    ) -> Running:
        """Start it and wait for all its nodes; see :func:`eksml.backends.up`."""

    def find(self, name: str) -> Running | None:
        """The cluster of that name, if it is up."""

    def list_up(self) -> list[Running]:
        """All clusters of this user that are up."""


def _amounts(resources: dict[str, float]) -> str:
    shown = {
        name: amount
        for name, amount in sorted(resources.items())
        if name not in ("memory", "object_store_memory") and not name.startswith("node:")
    }
    return " ".join(f"{name}={amount:g}" for name, amount in shown.items())
