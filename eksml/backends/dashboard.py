"""Ray's dashboard over HTTP: the Jobs API's address, asked with the token and without Ray."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from eksml.cluster.groups import NODE_GROUP_LABEL
from eksml.errors import ClusterError, ClusterNotUp

# A proxy for the outside world must not see a token that is meant for this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ALL_NODES = "/api/v0/nodes?" + urllib.parse.urlencode({"detail": "true", "limit": 10_000})
"""The State API behind ``ray list nodes``; of the dead, the last thousand."""
_ALIVE = {"filter_keys": "state", "filter_predicates": "=", "filter_values": "ALIVE"}
_NODES = f"{_ALL_NODES}&{urllib.parse.urlencode(_ALIVE)}"


@dataclass(frozen=True)
class RayNode:
    """A live node as Ray sees it."""

    node_id: str
    ip: str
    is_head: bool
    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RayLife:
    """When a node, dead or alive, was a part of the cluster."""

    group: str
    """``ray.io/node-group``."""
    started_s: float
    ended_s: float | None
    """Both in seconds since the epoch; None while it lives."""


@dataclass(frozen=True)
class Dashboard:
    """The HTTP side of one Ray cluster."""

    url: str
    token: str = field(repr=False)

    def headers(self) -> dict[str, str]:
        """What each request must carry; also right for ``JobSubmissionClient(headers=…)``."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def version(self) -> str:
        """Ray's version there; proves that the Jobs API answers and takes the token.

        Raises:
            ClusterNotUp: nobody answers.
            ClusterError: the token is refused.
        """
        return str(self._get("/api/version")["ray_version"])

    def nodes(self) -> list[RayNode]:
        """The live nodes.

        Raises:
            ClusterNotUp: nobody answers.
            ClusterError: the token is refused.
        """
        return [
            RayNode(
                node["node_id"],
                node["node_ip"],
                bool(node["is_head_node"]),
                dict(node["resources_total"] or {}),
                dict(node["labels"] or {}),
            )
            for node in self._get(_NODES)["data"]["result"]["result"]
        ]

    def lives(self) -> list[RayLife]:
        """All nodes since the head started, the dead too. Raises as ``nodes``."""
        return [
            RayLife(
                dict(node["labels"] or {}).get(NODE_GROUP_LABEL, ""),
                node["start_time_ms"] / 1000,
                node["end_time_ms"] / 1000 if node["state"] == "DEAD" else None,
            )
            for node in self._get(_ALL_NODES)["data"]["result"]["result"]
        ]

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, headers=self.headers())
        try:
            with _DIRECT.open(request, timeout=5) as answer:
                loaded: dict[str, Any] = json.load(answer)
                return loaded
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except (OSError, ValueError, json.JSONDecodeError) as error:
            raise ClusterNotUp(f"No Ray answers at {self.url} ({error}).") from error

    def _refused(self, error: urllib.error.HTTPError) -> ClusterError:
        if error.code == 401:
            return ClusterError(
                f"{self.url} asks for a token. Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
            )
        if error.code == 403:
            return ClusterError(
                f"{self.url} refuses the token. Is RAY_AUTH_TOKEN that of another cluster?"
            )
        return ClusterNotUp(f"{self.url} answers {error.code} {error.reason}.")
