"""Processes, named so that a recycled pid is never mistaken for the one that was meant."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
MARK = "EKSML_NODE"
"""Environment variable that every process of a node inherits; its value is unique to the node."""


@dataclass(frozen=True)
class Process:
    """One process, for ever: its pid and when it was born."""

    pid: int
    born: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The live process that has this pid now."""
        found = cls(pid, _birth(pid)[0])
        return found if found.alive() else None

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        return cls(os.getpid(), _birth(os.getpid())[0])

    def alive(self) -> bool:
        """Whether it still runs. A zombie, or another process with its pid, does not count."""
        born, ended = _birth(self.pid)
        return born == self.born and not ended

    def recycled(self) -> bool:
        """Whether its pid belongs to somebody else by now."""
        return _birth(self.pid)[0] not in ("", self.born)


def _birth(pid: int) -> tuple[str, bool]:
    """When the process with this pid was born ("": there is none), and whether it is a zombie.

    Boot and start tick on Linux, where wall-clock times shift.
    """
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            return str(process.create_time()), process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return "", True
    try:
        # The command, the second field, is in brackets and may hold spaces and brackets itself.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", True
    return f"{_boot()}:{fields[19]}", fields[0] in "ZX"


@cache
def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def die_with_parent() -> None:
    """Run in a child between fork and exec: the kernel kills it when its parent dies (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def members(leader: Process, mark: str) -> list[int]:
    """Pids of everything that belongs to a node.

    A node's processes share the session of its ``ray start`` (Ray's workers overwrite the memory
    of their environment with their title, so the mark alone is not enough); what left the session
    still carries the mark.
    """
    # A pid is not given away while it numbers a session: only a stranger with the leader's pid
    # shows that the node's session is over.
    session = None if leader.recycled() else leader.pid
    return [pid for pid in psutil.pids() if pid != os.getpid() and _belongs(pid, session, mark)]


def _belongs(pid: int, session: int | None, mark: str) -> bool:
    try:
        process = psutil.Process(pid)
        if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        return session in (pid, os.getsid(pid)) or process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def kill_node(leader: Process, mark: str, patience_s: float = 10) -> None:
    """Kill -9 a whole node: every process of it, also those born while this runs."""
    kill_nodes([(leader, mark)], patience_s)


def kill_nodes(nodes: Iterable[tuple[Process, str]], patience_s: float = 10) -> None:
    """Kill -9 several nodes at once. Returns when nothing of them runs, or patience is over."""
    left = list(nodes)
    deadline = time.monotonic() + patience_s
    while left and time.monotonic() < deadline:
        alive = [(node, pids) for node in left if (pids := members(*node))]
        for _, pids in alive:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        left = [node for node, _ in alive]
        if left:
            time.sleep(0.05)
