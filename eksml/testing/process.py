"""Servers of the tests' own: processes that end with whoever started them."""

from __future__ import annotations

import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from eksml.errors import StorageUnavailable

_START_TIMEOUT_S = 60.0
_PR_SET_PDEATHSIG = 1


class Server:
    """One server process and its log; as another ``user`` if one is given."""

    def __init__(self, command: Sequence[str], log: Path, user: str | None = None) -> None:
        self._command = list(command)
        self._log = log
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, answers: Callable[[], bool]) -> None:
        """Start the process and wait until it answers.

        Raises:
            StorageUnavailable: It does not within a minute; the message ends with its log.
        """
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdout=output,
                stderr=output,
                user=self._user,
                cwd="/",
                preexec_fn=_die_with_parent,
            )
        began = time.monotonic()
        while not answers():
            ended = self._process.poll() is not None
            if ended or time.monotonic() - began > _START_TIMEOUT_S:
                tail = self._log.read_text(errors="replace")[-2000:]
                raise StorageUnavailable(f"{self._command[0]} did not start:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill the process, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def takes_connections(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
