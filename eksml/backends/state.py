"""What is known about a local cluster, in one folder that only its owner may read.

::

    <EKSML_HOME>/clusters/<name>.lock          held while a cluster is created or swept
    <EKSML_HOME>/clusters/<name>/state.json    written by the keeper, read by everybody
    <EKSML_HOME>/clusters/<name>/cluster.yaml  the specification
    <EKSML_HOME>/clusters/<name>/token         the Ray token, and nowhere else
    <EKSML_HOME>/clusters/<name>/logs/         what the keeper and each `ray start` said
    <system's temporary folder>/eksml-…/       Ray's own files and the keeper's socket
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from eksml import env
from eksml.backends.processes import Process, kill_nodes

Phase = Literal["starting", "running", "stopping", "failed"]
NodePhase = Literal["starting", "running", "draining"]

HEAD = "head"
"""Id and group of the head node."""

_TEMP_PREFIX = "eksml-"
_LONGEST_TEMP = 24
"""Ray puts sockets 75 characters below its folder, and a socket's path ends at 103 on macOS."""


@dataclass
class NodeState:
    """One node that the keeper has started and that is not gone."""

    id: str
    group: str
    phase: NodePhase
    process: Process
    """Its ``ray start``, the leader of the node's session."""
    mark: str
    ip: str
    started_at: float
    """Seconds since the epoch."""
    kill_at: float | None = None
    """When a draining node is killed, seconds since the epoch."""


@dataclass
class ClusterState:
    """What the keeper tells the world."""

    name: str
    temp: str
    phase: Phase = "starting"
    keeper: Process | None = None
    owner: Process | None = None
    """The process whose end takes the cluster down. None: it was started detached."""
    address: str = ""
    jobs_address: str = ""
    wanted: dict[str, int] = field(default_factory=dict)
    nodes: list[NodeState] = field(default_factory=list)
    failure: str = ""

    def kept(self) -> bool:
        """Whether the keeper is alive."""
        return self.keeper is not None and self.keeper.alive()


class Folder:
    """The folder of one cluster."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = clusters_folder() / name
        self.spec = self.path / "cluster.yaml"
        self.token = self.path / "token"
        self.logs = self.path / "logs"
        self._state = self.path / "state.json"
        self._written = ""

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from creating or sweeping this cluster. Freed by a crash."""
        clusters_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(clusters_folder() / f"{self.name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def create(self, spec: str, token: str, owner: Process | None) -> ClusterState:
        """Make the folder with a first state. The caller holds the lock."""
        self.path.mkdir(mode=0o700)
        self.logs.mkdir()
        self.spec.write_text(spec, encoding="utf-8")
        with open(os.open(self.token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        state = ClusterState(self.name, temp=_temp_folder(), owner=owner)
        self.write(state)
        return state

    def read(self) -> ClusterState | None:
        """The present state; None if there is no such cluster."""
        try:
            return _state_of(json.loads(self._state.read_text(encoding="utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, state: ClusterState) -> None:
        """Replace the state in one step: a reader sees the old one or the new one."""
        text = json.dumps(asdict(state), indent=1)
        if text == self._written:
            return
        fresh = self._state.with_suffix(".new")
        fresh.write_text(text, encoding="utf-8")
        os.replace(fresh, self._state)
        self._written = text

    def log_of(self, who: str) -> Path:
        """Where a node's ``ray start`` writes, or the ``keeper``."""
        return self.logs / f"{who}.log"

    def tail(self, who: str, num_lines: int = 15) -> str:
        """The last lines of such a log, for a message."""
        log = self.log_of(who)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        return "\n".join(f"  {line}" for line in lines[-num_lines:])

    def remove_temp(self, temp: str) -> None:
        """Delete Ray's files. The cluster's processes must be gone."""
        if Path(temp).name.startswith(_TEMP_PREFIX):
            _remove_tree(Path(temp))

    def remove(self) -> None:
        """Delete what is known about the cluster, its logs included."""
        _remove_tree(self.path)


def sweep(folder: Folder, state: ClusterState) -> None:
    """End and remove whatever is left of a cluster. The caller holds the lock."""
    keeper = [(state.keeper, "")] if state.keeper else []
    kill_nodes([*keeper, *((node.process, node.mark) for node in state.nodes)])
    folder.remove_temp(state.temp)
    folder.remove()


def clusters_folder() -> Path:
    """Where all local clusters of this user lie."""
    return env.HOME() / "clusters"


def all_folders() -> list[Folder]:
    """Every local cluster that left a folder, live or not."""
    paths = sorted(clusters_folder().glob("*/state.json"))
    return [Folder(path.parent.name) for path in paths]


def _temp_folder() -> str:
    base = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix=_TEMP_PREFIX, dir=base if len(base) <= _LONGEST_TEMP else "/tmp")


def _remove_tree(path: Path, patience_s: float = 5) -> None:
    """Dying processes may still write: try until it is gone."""
    deadline = time.monotonic() + patience_s
    while path.exists() and time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            time.sleep(0.1)


def _state_of(loaded: dict[str, Any]) -> ClusterState:
    nodes = [
        NodeState(**{**node, "process": Process(**node["process"])}) for node in loaded["nodes"]
    ]
    keeper, owner = (Process(**loaded[who]) if loaded[who] else None for who in ("keeper", "owner"))
    return ClusterState(**{**loaded, "nodes": nodes, "keeper": keeper, "owner": owner})
