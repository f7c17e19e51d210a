"""How a node is started: the command and the environment of one ``ray start``, as data."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eksml.backends.ports import free_ports
from eksml.backends.processes import MARK
from eksml.cluster import Cluster
from eksml.cluster.groups import Node
from eksml.cluster.vocabulary import NO_NICENESS
from eksml.errors import ClusterStartFailed

NODE_LABEL = "eksml.io/node"
"""The label that carries eksml's id of a node into Ray."""

_FLAGS = ("CPU", "GPU", "memory")
"""Resources that have an option of their own; the rest travel as ``--resources``."""

_DEFAULT_OBJECT_STORE = 256 * 1024**2
_LOOPBACK = sys.platform == "linux"
"""Linux answers on all of 127/8: each node gets an address of its own, and a laptop that changes
its network keeps its cluster."""

_RAY_SETTINGS = {
    **NO_NICENESS,
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A dead node is noticed after 4 failed checks a second apart (Ray's own: 5, 3 s apart); the
    # generous timeout keeps a node that is merely starved of CPU.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
    # Several nodes that start together on few cores take longer than Ray's 30 s.
    "RAY_raylet_start_wait_time_s": "90",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
}


@dataclass(frozen=True)
class Site:
    """Where a cluster lives on this machine: what its nodes have in common."""

    temp: Path
    token_path: Path
    gcs_port: int
    client_port: int
    dashboard_port: int

    @classmethod
    def choose(cls, cluster: Cluster, temp: Path, token_path: Path) -> Site:
        """A site on free ports."""
        gcs, client, dashboard = free_ports(3)
        return cls(temp, token_path, gcs, client, cluster.head.dashboard_port or dashboard)

    def ray_folder(self, ordinal: int) -> Path:
        """Ray's folder of the n-th node. Each has its own, since a node that unpacks the files of a
        job first clears away those that another one runs from."""
        return self.temp / ("ray" if ordinal == 0 else str(ordinal))

    def share_logs(self, ordinal: int) -> None:
        """Let a node that is about to start write its logs to the head's folder: on one machine,
        Ray's agents look for them there."""
        session = (self.ray_folder(0) / "session_latest").resolve()
        own = self.ray_folder(ordinal) / session.name
        own.mkdir(parents=True, exist_ok=True)
        (own / "logs").symlink_to(session / "logs")

    @property
    def address(self) -> str:
        """Of the GCS, for ``ray.init``."""
        return f"{node_ip(0)}:{self.gcs_port}"

    @property
    def jobs_address(self) -> str:
        """Of the dashboard and the Jobs API."""
        return f"http://127.0.0.1:{self.dashboard_port}"


def node_ip(ordinal: int) -> str:
    """The loopback address of the n-th node of a cluster."""
    if not _LOOPBACK:
        return "127.0.0.1"
    index = ordinal % 60_000 + 1  # not 127.0.0.1, which Ray replaces by the machine's address
    return f"127.0.{index // 254}.{index % 254 + 1}"


def head_command(cluster: Cluster, site: Site) -> list[str]:
    """``ray start`` of the head."""
    labels = cluster.head.node_labels() | {NODE_LABEL: "head"}
    return [
        *_ray_start(cluster.head, labels, site, ordinal=0),
        "--head",
        f"--port={site.gcs_port}",
        f"--ray-client-server-port={site.client_port}",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={site.dashboard_port}",
    ]


def worker_command(cluster: Cluster, group: str, node: str, site: Site, ordinal: int) -> list[str]:
    """``ray start`` of a worker node."""
    spec = cluster.group(group)
    labels = spec.node_labels() | {NODE_LABEL: node}
    return [
        *_ray_start(spec, labels, site, ordinal),
        f"--address={site.address}",
        # The head's reads the shared logs for all
        "--include-log-monitor=false",
    ]


def _ray_start(spec: Node, labels: Mapping[str, str], site: Site, ordinal: int) -> list[str]:
    offered = spec.offers()
    custom = {name: amount for name, amount in offered.items() if name not in _FLAGS}
    # Said rather than left to Ray: a raylet waits for its agents to choose theirs, and gives up
    # after 15 s on a busy machine.
    agent, agent_grpc, runtime_env, metrics = free_ports(4)
    return [
        *_ray(),
        "start",
        "--block",
        "--disable-usage-stats",
        "--log-color=false",
        f"--node-ip-address={node_ip(ordinal)}",
        f"--temp-dir={site.ray_folder(ordinal)}",
        f"--num-cpus={int(offered.get('CPU', 0))}",
        f"--num-gpus={int(offered.get('GPU', 0))}",
        *([f"--memory={spec.memory}"] if spec.memory else []),
        f"--object-store-memory={spec.object_store_memory or _DEFAULT_OBJECT_STORE}",
        *([f"--resources={json.dumps(custom)}"] if custom else []),
        f"--labels={','.join(f'{key}={value}' for key, value in labels.items())}",
        "--min-worker-port=0",
        "--max-worker-port=0",
        f"--dashboard-agent-listen-port={agent}",
        f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--runtime-env-agent-port={runtime_env}",
        f"--metrics-export-port={metrics}",
    ]


def node_environment(cluster: Cluster, node: Node, site: Site, mark: str) -> dict[str, str]:
    """What a node's processes see: the caller's variables without Ray's, then the cluster's, then
    those of the node's group.

    The caller may itself run inside Ray, whose variables would send the new node there.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # The `python` of a job is this one, also where no virtual environment was activated
    path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
    return {
        **inherited,
        "PATH": path,
        **_RAY_SETTINGS,
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(cluster.notice_s),
        **cluster.env,
        **node.env,
        "RAY_AUTH_TOKEN_PATH": str(site.token_path),
        MARK: mark,
    }


def _ray() -> list[str]:
    beside = Path(sysconfig.get_path("scripts")) / "ray"
    found = str(beside) if beside.exists() else shutil.which("ray")
    if found is None:
        raise ClusterStartFailed("There is no `ray` command. Install ray[default].")
    return [found]
