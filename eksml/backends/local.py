"""The local backend: each node of a cluster is a ``ray start`` of its own on this machine."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from contextlib import suppress

from eksml.backends import commands
from eksml.backends.base import NodeStatus, Running, Status
from eksml.backends.dashboard import Dashboard, RayNode
from eksml.backends.launch import NODE_LABEL
from eksml.backends.processes import MARK, Process
from eksml.backends.progress import Progress
from eksml.backends.state import HEAD, ClusterState, Folder, all_folders, sweep
from eksml.cluster import Cluster
from eksml.cluster.names import is_name
from eksml.errors import (
    ClusterError,
    ClusterInUse,
    ClusterNotUp,
    ClusterStartFailed,
    InvalidSpec,
    Problem,
)

_POLL_S = 0.1
_KEEPER_START_S = 30.0
_DOWN_S = 30.0
_START_S = 180.0


class LocalRunning(Running):
    """A cluster of this machine. Reads what its keeper writes, and gives it orders."""

    spec: Cluster

    def __init__(self, folder: Folder, state: ClusterState, started_here: bool = False) -> None:
        self.name = state.name
        self.spec = Cluster.load(folder.spec)
        self.token = folder.token.read_text()
        self.started_here = started_here
        self._folder = folder
        self._temp = state.temp
        self._keeper = state.keeper

    @property
    def address(self) -> str:
        return self._state().address

    @property
    def jobs_address(self) -> str:
        return self._state().jobs_address

    def env(self) -> dict[str, str]:
        state = self._state()
        return {
            "RAY_ADDRESS": state.address,
            "RAY_API_SERVER_ADDRESS": state.jobs_address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self._folder.token),
        }

    def status(self) -> Status:
        state = self._state()
        seen: dict[str, RayNode] = {}
        with suppress(ClusterError):  # while the head starts, Ray has nothing to say
            alive = Dashboard(state.jobs_address, self.token).nodes()
            seen = {node.labels.get(NODE_LABEL, ""): node for node in alive}
        nodes = []
        for node in state.nodes:
            ray = seen.get(node.id)
            phase = "lost" if node.phase == "running" and seen and not ray else node.phase
            nodes.append(
                NodeStatus(
                    node.id,
                    node.group,
                    phase,
                    node.ip,
                    node.process.pid,
                    ray.node_id if ray else "",
                    ray.resources if ray else {},
                    ray.labels if ray else {},
                )
            )
        return Status(self.name, state.phase, state.jobs_address, tuple(nodes))

    def scale(self, group: str, num_nodes: int) -> None:
        least, most = self.spec.group(group).nodes
        if isinstance(num_nodes, bool) or not least <= num_nodes <= most:
            remedy = f"Group {group!r} may have {least} to {most}; change its nodes."
            problem = Problem("num_nodes", f"{num_nodes!r} is outside the group's range.", remedy)
            raise InvalidSpec([problem], subject="the call")
        commands.send(self._temp, "scale", group=group, nodes=num_nodes)

    def interrupt(self, node: str, *, notice_s: float | None = None) -> None:
        """Reclaim a node as a spot market does: the notice now, the kill after ``notice_s``.

        Ray marks the node as draining, with the deadline that the specification's ``notice_s``
        says; a shorter one here is a market that breaks its promise. Once it is gone, a new node
        takes its place.

        Raises:
            InvalidSpec: the head, or a notice longer than the specification's.
            ClusterError: no such node.
        """
        if notice_s is None:
            notice_s = self.spec.notice_s
        problems = []
        if node == HEAD:
            problems.append(Problem("node", "is the head, which nobody reclaims.", "Use kill()."))
        if not 0 <= notice_s <= self.spec.notice_s:
            told = f"{notice_s!r} is not within 0 and the cluster's {self.spec.notice_s} s."
            problems.append(Problem("notice_s", told, "Raise notice_s in the specification."))
        if problems:
            raise InvalidSpec(problems, subject="the call")
        commands.send(self._temp, "interrupt", node=node, notice_s=notice_s)

    def kill(self, node: str) -> None:
        """Kill -9 every process of a node at once, as a power cut would. A new one replaces it.

        Raises:
            ClusterError: no such node.
        """
        commands.send(self._temp, "kill", node=node)

    def down(self) -> None:
        with suppress(ClusterError):
            commands.send(self._temp, "down")
        deadline = time.monotonic() + _DOWN_S
        while self._keeper and self._keeper.alive() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        with self._folder.lock():
            state = self._folder.read()
            if state is not None and state.temp == self._temp:  # else it is a later cluster's
                sweep(self._folder, state)

    def _state(self) -> ClusterState:
        state = self._folder.read()
        if state is None or state.temp != self._temp or not state.kept():
            raise ClusterNotUp(f"Cluster {self.name!r} is not up any more.")
        return state


class LocalBackend:
    """Clusters of processes on this machine, one keeper each."""

    def up(
        self, cluster: Cluster, *, detach: bool, timeout_s: float | None, progress: bool
    ) -> Running:
        """See :func:`eksml.backends.up`."""
        _check_sizes(cluster)
        folder = Folder(cluster.name)
        with folder.lock():
            running = _open(folder)
            if running is not None and running.spec != cluster:
                raise ClusterInUse(
                    f"Another cluster named {cluster.name!r} is up, with another specification. "
                    f"Take it down with `eksml down {cluster.name}`, or choose another name."
                )
            if running is None:
                running = _start(folder, cluster, detach)
        try:
            _wait(folder, cluster, _START_S if timeout_s is None else timeout_s, progress)
        except BaseException:
            if running.started_here:
                running.down()
            raise
        return running

    def find(self, name: str) -> Running | None:
        """The cluster of that name, if it is up. Sweeps up what a crashed one left."""
        if not is_name(name) or not Folder(name).path.is_dir():
            return None
        folder = Folder(name)
        with folder.lock():
            return _open(folder)

    def list_up(self) -> list[Running]:
        """All that are up. Sweeps up what crashed ones left."""
        found = (self.find(folder.name) for folder in all_folders())
        return [running for running in found if running is not None]


def _open(folder: Folder) -> LocalRunning | None:
    """The live cluster in ``folder``; a dead one is swept. The caller holds the lock."""
    state = folder.read()
    deadline = time.monotonic() + _DOWN_S
    while state and state.kept() and state.phase in ("stopping", "failed"):
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_S)
        state = folder.read()
    if state is None:
        folder.remove()  # a creator that died before it wrote a state
        return None
    if not state.kept() or state.phase in ("stopping", "failed"):
        sweep(folder, state)
        return None
    return LocalRunning(folder, state)


def _start(folder: Folder, cluster: Cluster, detach: bool) -> LocalRunning:
    """Start the keeper and wait until it has the cluster in hand. The caller holds the lock."""
    owner = None if detach else Process.this()
    state = folder.create(cluster.to_yaml(), secrets.token_hex(32), owner)
    try:
        # The keeper belongs to no node, even where a job in one cluster starts another.
        environment = {name: value for name, value in os.environ.items() if name != MARK}
        with open(folder.log_of("keeper"), "ab") as log:
            subprocess.run(
                [sys.executable, "-m", "eksml.backends.keeper", cluster.name],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                check=True,
            )
        return LocalRunning(folder, _kept_state(folder), started_here=True)
    except BaseException:
        sweep(folder, folder.read() or state)
        raise


def _kept_state(folder: Folder) -> ClusterState:
    deadline = time.monotonic() + _KEEPER_START_S
    while time.monotonic() < deadline:
        state = folder.read()
        if state is not None and state.keeper is not None:
            return state
        time.sleep(_POLL_S / 2)
    said = folder.tail("keeper")
    raise ClusterStartFailed(f"The keeper of {folder.name!r} did not start. It said:\n{said}")


def _wait(folder: Folder, cluster: Cluster, timeout_s: float, progress: bool) -> None:
    """Until the keeper says that all nodes have joined."""
    deadline = time.monotonic() + timeout_s
    with Progress(f"cluster {cluster.name}", shown=progress) as line:
        while True:
            state = folder.read()
            if state is None or not state.kept() or state.phase in ("failed", "stopping"):
                raise ClusterStartFailed(
                    (state and state.failure)
                    or f"Cluster {cluster.name!r} went down as it started."
                )
            if state.phase == "running":
                return
            joined = sum(node.phase == "running" for node in state.nodes)
            expected = 1 + sum(state.wanted.values())
            line.show(f"{joined} of {expected} nodes")
            if time.monotonic() > deadline:
                late = next(node.id for node in state.nodes if node.phase != "running")
                raise ClusterStartFailed(
                    f"Only {joined} of {expected} nodes of {cluster.name!r} joined in "
                    f"{timeout_s:g} s. Raise timeout_s, or start fewer nodes. "
                    f"Node {late} said:\n{folder.tail(late)}"
                )
            time.sleep(_POLL_S)


def _check_sizes(cluster: Cluster) -> None:
    """Refuse groups whose sizes only an instance type would tell."""
    problems: list[Problem] = []
    for index, group in enumerate(cluster.groups):
        try:
            group.offers()
        except InvalidSpec as error:
            problems += [
                Problem(f"groups.{index}.{p.path}", p.message, p.remedy) for p in error.problems
            ]
    if problems:
        raise InvalidSpec(problems, subject=f"cluster {cluster.name!r} on the local backend")
