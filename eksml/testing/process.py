"""Servers of the tests' own: processes that end with whoever started them."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar, Self

from eksml.errors import StorageUnavailable
from eksml.testing.ports import free_ports

_START_TIMEOUT_S = 60.0
_PR_SET_PDEATHSIG = 1


class OwnServer:
    """A server while a ``with`` lasts: a process, a free port, a folder that goes with it.

    Subclasses say what it is called and its :meth:`_command`, and get the folder ready in
    :meth:`_prepare` if it needs that.
    """

    name: ClassVar[str]
    _user: str | None = None
    """Whom the process runs as, if not as this one."""

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix=f"eksml-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        """What starts it, on ``_port``."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Get the folder ready."""

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the process and wait until it takes connections.

        Raises:
            StorageUnavailable: It does not within a minute; the message ends with its log.
        """
        log = self._folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command(),
                stdout=output,
                stderr=output,
                user=self._user,
                cwd="/",
                preexec_fn=_die_with_parent,
            )
        began = time.monotonic()
        while not _takes_connections(self._port):
            ended = self._process.poll() is not None
            if ended or time.monotonic() - began > _START_TIMEOUT_S:
                tail = log.read_text(errors="replace")[-2000:]
                raise StorageUnavailable(f"{self.name} did not start:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill the process, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _takes_connections(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
