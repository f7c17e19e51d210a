"""The keeper of one local cluster: owns its nodes, as KubeRay's operator owns pods.

``python -m eksml.backends.keeper <name>`` detaches itself, starts the head, keeps each group at
its wanted count, replaces nodes that died, takes orders, and takes everything down when it is
told to, when its owner is gone, or when the head cannot be started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from eksml.backends import launch
from eksml.backends.commands import Desk
from eksml.backends.dashboard import Dashboard
from eksml.backends.ports import is_free_within
from eksml.backends.processes import Process, die_with_parent, kill_nodes
from eksml.backends.reconcile import Failures, Start, reconcile
from eksml.backends.state import HEAD, ClusterState, Folder, NodeState, sweep
from eksml.cluster import Cluster
from eksml.errors import ClusterError

_TICK_S = 0.2
_LOOK_S = 0.5
_PORT_PATIENCE_S = 5.0
_START_TIMEOUT_S = 90.0
"""A node that has not joined by then is killed and started anew."""
_HEAD_TRIES = 2
_TRIES = 3
"""Failed starts of one group before a cluster that never ran counts as failed."""


class Keeper:
    """State and steps of the keeper. Single-threaded: ``die_with_parent`` counts on that."""

    def __init__(self, folder: Folder) -> None:
        state = folder.read()
        assert state is not None, "the folder is made before the keeper starts"
        self._folder = folder
        self._state: ClusterState = state
        self._spec = Cluster.load(folder.spec)
        self._token = folder.token.read_text()
        self._site = launch.Site.choose(self._spec, Path(state.temp), folder.token)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._failures: dict[str, Failures] = {}
        self._started = 0
        self._looked_at = 0.0
        self._over = False
        self._desk = Desk(state.temp)
        state.keeper = Process.this()
        state.wanted = {group.name: group.initial_nodes for group in self._spec.groups}
        self._announce()

    def run(self) -> None:
        """Keep the cluster until it is over; nothing of it is left afterwards."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._stop)
        try:
            while not self._over:
                self._step()
                self._folder.write(self._state)
                self._desk.serve(_TICK_S, self._carry_out)
        except Exception as error:
            self._fail(f"The keeper failed: {error!r}.")
            raise
        finally:
            self._take_down()

    def _step(self) -> None:
        now = time.time()
        self._reap(now)
        if self._state.owner and not self._state.owner.alive():
            self._over = True
        if not self._over and not any(node.group == HEAD for node in self._state.nodes):
            self._start_head()
        self._look(now)
        steps = reconcile(self._state.wanted, self._state.nodes, self._failures, now)
        for step in steps if not self._over else ():
            if isinstance(step, Start):
                self._start_worker(step.group)
            else:
                self._drain(self._node(step.node), now)
        if self._state.phase == "starting" and self._complete():
            self._state.phase = "running"

    def _complete(self) -> bool:
        running = [node.group for node in self._state.nodes if node.phase == "running"]
        return HEAD in running and all(
            running.count(group) >= count for group, count in self._state.wanted.items()
        )

    # Starting

    def _start_head(self) -> None:
        patience_s = 0.0
        if self._failures.get(HEAD, Failures()).count:
            self._site = launch.Site.choose(self._spec, self._site.temp, self._site.token_path)
            patience_s = _PORT_PATIENCE_S
        if not is_free_within(self._site.dashboard_port, patience_s):
            # Ray would start without its dashboard, and say so in its log only.
            port = self._site.dashboard_port
            self._fail(f"Port {port} is taken. Leave dashboard_port out, or choose a free one.")
            return
        self._announce()
        self._spawn(HEAD, HEAD, launch.head_command(self._spec, self._site), ordinal=0)

    def _announce(self) -> None:
        self._state.address = self._site.address
        self._state.jobs_address = self._site.jobs_address
        self._folder.write(self._state)

    def _start_worker(self, group: str) -> None:
        self._started += 1
        node = f"{group}-{self._started}"
        self._site.share_logs(self._started)
        command = launch.worker_command(self._spec, group, node, self._site, self._started)
        self._spawn(node, group, command, self._started)

    def _spawn(self, node: str, group: str, command: list[str], ordinal: int) -> None:
        mark = uuid4().hex
        spec = self._spec.head if node == HEAD else self._spec.group(group)
        with open(self._folder.log_of(node), "ab") as log:
            child = subprocess.Popen(
                command,
                env=launch.node_environment(self._spec, spec, self._site, mark),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        process = Process.of(child.pid) or Process(child.pid, "")
        ip = launch.node_ip(ordinal)
        self._children[node] = child
        self._state.nodes.append(NodeState(node, group, "starting", process, mark, ip, time.time()))
        self._folder.write(self._state)

    def _look(self, now: float) -> None:
        """Ask Ray which starting nodes have joined."""
        starting = [node for node in self._state.nodes if node.phase == "starting"]
        if not starting or now < self._looked_at + _LOOK_S:
            return
        self._looked_at = now
        try:
            joined = Dashboard(self._site.jobs_address, self._token).nodes()
        except ClusterError:
            return  # the head is not there yet; its time-out is counted below
        finally:
            self._looked_at = time.time()
        alive = {node.labels.get(launch.NODE_LABEL) for node in joined}
        for node in starting:
            if node.id in alive:
                node.phase = "running"
                self._failures.pop(node.group, None)

    # Ending

    def _reap(self, now: float) -> None:
        """Clear away nodes whose ``ray start`` ended or whose time is over."""
        for node in list(self._state.nodes):
            if node.id not in self._children:
                continue  # it ended with the head
            ended = self._children[node.id].poll() is not None
            late = node.phase == "starting" and now > node.started_at + _START_TIMEOUT_S
            reclaimed = node.kill_at is not None and now >= node.kill_at
            if not (ended or late or reclaimed):
                continue
            self._lose(node)
            if node.phase == "starting":
                self._count_failure(node, now)

    def _lose(self, node: NodeState) -> None:
        """End a node, and with the head all others: they belong to no cluster any more."""
        if node.id != HEAD:
            self._end([node])
            return
        self._end(list(self._state.nodes))
        self._state.phase = "starting"

    def _end(self, nodes: list[NodeState]) -> None:
        kill_nodes((node.process, node.mark) for node in nodes)
        for node in nodes:
            self._children.pop(node.id).wait()
            self._state.nodes.remove(node)

    def _count_failure(self, node: NodeState, now: float) -> None:
        failures = self._failures.setdefault(node.group, Failures())
        failures.count += 1
        failures.last_at = now
        tries = _HEAD_TRIES if node.id == HEAD else _TRIES
        if failures.count >= tries and (node.id == HEAD or self._state.phase == "starting"):
            said = self._folder.tail(node.id)
            self._fail(f"Node {node.id} did not come up in {tries} tries. It said:\n{said}")

    def _drain(self, node: NodeState, now: float, notice_s: float | None = None) -> None:
        """The notice of a reclaim: Ray marks the node as draining and has until ``kill_at``."""
        with suppress(ProcessLookupError):
            os.kill(node.process.pid, signal.SIGTERM)
        node.phase = "draining"
        kill_at = now + (self._spec.notice_s if notice_s is None else notice_s)
        node.kill_at = kill_at if node.kill_at is None else min(kill_at, node.kill_at)

    def _fail(self, why: str) -> None:
        self._state.phase = "failed"
        self._state.failure = why
        self._over = True

    def _stop(self, number: int, frame: object) -> None:
        self._over = True

    def _take_down(self) -> None:
        if self._state.phase != "failed":
            self._state.phase = "stopping"
        self._folder.write(self._state)
        self._desk.close()
        self._end(list(self._state.nodes))
        self._folder.write(self._state)
        self._folder.remove_temp(self._state.temp)
        if self._state.phase != "failed":  # else the next call reads the reason, then removes it
            self._folder.remove()

    # Orders

    def _carry_out(self, order: dict[str, Any]) -> str:
        kind = order.get("order")
        if kind == "down":
            self._over = True
            return ""
        if kind == "scale":
            self._state.wanted[order["group"]] = int(order["nodes"])
            self._folder.write(self._state)
            return ""
        node = next((n for n in self._state.nodes if n.id == order.get("node")), None)
        if node is None:
            return f"{order.get('node')!r} is not a node of cluster {self._state.name!r} now."
        if kind == "interrupt":
            self._drain(node, time.time(), order["notice_s"])
            self._folder.write(self._state)
            return ""
        if kind == "kill":
            self._lose(node)
            self._folder.write(self._state)
            return ""
        return f"{kind!r} is not an order."

    def _node(self, node_id: str) -> NodeState:
        return next(node for node in self._state.nodes if node.id == node_id)


def main() -> None:
    """Detach from the caller, then keep the cluster that the argument names.

    Two processes: a keeper that is killed cannot clean up, so its parent does.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    folder = Folder(sys.argv[1])
    keeper = os.fork()
    if keeper == 0:
        Keeper(folder).run()
        return
    os.waitpid(keeper, 0)
    with folder.lock():
        state = folder.read()
        # Gone after an orderly end; of another keeper if the name is in use again.
        if state and state.keeper and state.keeper.pid == keeper and state.phase != "failed":
            sweep(folder, state)


if __name__ == "__main__":
    main()
