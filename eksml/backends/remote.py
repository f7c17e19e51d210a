"""A Ray that somebody else started, known by the address of its Jobs API."""

from __future__ import annotations

import os
from pathlib import Path

from eksml.backends.base import NodeStatus, Running, Status
from eksml.backends.dashboard import Dashboard
from eksml.errors import ClusterError

_NOT_OURS = "eksml did not start the cluster at {}, and leaves its nodes alone."


class RemoteRunning(Running):
    """Jobs can be sent there; its nodes are not eksml's to change."""

    spec = None

    def __init__(self, jobs_address: str) -> None:
        self.name = jobs_address.rstrip("/")
        self.token = _token()
        self._dashboard = Dashboard(self.name, self.token)
        self._dashboard.version()  # now rather than at the first job

    @property
    def address(self) -> str:
        return ""

    @property
    def jobs_address(self) -> str:
        return self.name

    def env(self) -> dict[str, str]:
        passed = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
        token = {name: os.environ[name] for name in passed if name in os.environ}
        mode = {"RAY_AUTH_MODE": "token"} if self.token else {}
        return {"RAY_API_SERVER_ADDRESS": self.jobs_address, **mode, **token}

    def status(self) -> Status:
        nodes = tuple(
            NodeStatus(
                id=node.node_id,
                group="head" if node.is_head else node.labels.get("ray.io/node-group", ""),
                phase="running",
                ip=node.ip,
                node_id=node.node_id,
                resources=node.resources,
                labels=node.labels,
            )
            for node in self._dashboard.nodes()
        )
        return Status(self.name, "running", self.jobs_address, nodes)

    def scale(self, group: str, num_nodes: int) -> None:
        raise ClusterError(_NOT_OURS.format(self.jobs_address))

    def down(self) -> None:
        raise ClusterError(_NOT_OURS.format(self.jobs_address))


def _token() -> str:
    """The token as Ray itself looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    if path := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ClusterError(f"RAY_AUTH_TOKEN_PATH cannot be read: {error}.") from error
    return ""
