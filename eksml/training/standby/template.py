"""The first worker of an attempt on a node: leaves a copy of itself, then works as usual.

The copy, the *template*, has everything imported and no state. It forks a worker for each launcher
that asks, until its node is gone or no worker of it has lived for two minutes.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

_IDLE_S = 120.0
_POLL_S = 10.0
_REQUEST_WITHIN_S = 5.0
_MODULES = (
    "ray",
    "eksml.training.worker",
    "torch.nn.parallel",
    # DDP and optimizers import it when they are first used; a third of the time of all
    "torch._dynamo",
    "torchdata.stateful_dataloader",
    "safetensors.torch",
    "numpy",
    "pandas",
    "pyarrow.fs",
    "pyarrow.parquet",
    "fsspec",
    "pydantic",
)
"""What every training worker imports, but for ``ray.train`` and ``ray.data``: they define actors,
which draw ids, and every fork would go on with the same ids. (Seen: Ray's processes then abort.)"""
_ROOT = str(Path(__file__).parents[3])
_DEVICES = ("/dev/nvidia", "/dev/neuron", "/dev/kfd")


def main() -> None:
    """Run the program that ``sys.argv[1]`` names, as ``python`` would have."""
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    if _ROOT not in sys.path:
        sys.path.append(_ROOT)  # Ray adds the driver's own paths later
    status = _Status()
    atexit.register(status.leave)  # The first that is registered is the last that is called
    with contextlib.suppress(OSError):
        _leave_template()
    with status:
        runpy.run_path(sys.argv[0], run_name="__main__")


class _Status:
    """Remembers how the program ended, and ends the process at once when all else has.

    Taking an interpreter apart touches each page that a fork shares with its template, for seconds.
    """

    code = 0

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        code = error.code if isinstance(error, SystemExit) else int(error is not None)
        self.code = code if isinstance(code, int) else int(code is not None)

    def leave(self) -> None:
        """Flush and exit."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)


def _leave_template() -> None:
    """Fork a template. Returns in the worker, and in every worker that the template forks.

    Raises:
        OSError: Another process has left one, or does so now.
    """
    from eksml.training.standby.launcher import socket_path

    path = socket_path(sys.argv)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raylet, worker = os.getppid(), os.getpid()
        _warm_up()
        if _holds_device() or _repeats_ids():
            return
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            return
        if os.fork():
            os._exit(0)  # Orphaned, the template is no child that Ray would kill with its worker
        _serve(path, raylet, worker)
    finally:
        os.close(lock)


def _warm_up() -> None:
    for name in _MODULES:
        with contextlib.suppress(ImportError):  # Whoever needs it will say so
            importlib.import_module(name)
    sys.stdout.flush()
    gc.freeze()  # Collections would copy what the forks share


def _holds_device() -> bool:
    """Whether a library has opened an accelerator: its driver would not survive a fork."""
    opened = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            opened.append(os.readlink(f"/proc/self/fd/{number}"))
    return any(name.startswith(_DEVICES) for name in opened)


def _repeats_ids() -> bool:
    """Whether forks would draw the same ids, since an import has used Ray's generator already."""
    return _drawn_in_a_fork() == _drawn_in_a_fork()


def _drawn_in_a_fork() -> bytes:
    import ray

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, ray.ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as drawn:
        found = drawn.read()
    os.waitpid(pid, 0)
    return found


@dataclass(frozen=True)
class Request:
    """What a launcher asks for: a worker that has these."""

    argv: list[str]
    cwd: str
    group: int
    standard: list[int]
    """Its file descriptors 0, 1 and 2."""

    def take_over(self) -> None:
        """Give this process what is the launcher's, and randomness of its own.

        Raises:
            OSError: The launcher's process group or folder is gone.
        """
        import numpy

        os.setpgid(0, self.group)
        for number, fd in enumerate(self.standard):
            os.dup2(fd, number)
            os.close(fd)
        os.chdir(self.cwd)
        sys.argv[:] = self.argv
        signal.signal(signal.SIGINT, signal.default_int_handler)
        numpy.random.seed()  # Python's own generator sees to itself after a fork


def receive(connection: socket.socket) -> Request:
    """Read a launcher's request.

    Raises:
        PermissionError: It is another user's.
        OSError, ValueError: It is none.
    """
    from eksml.training.standby.launcher import of_this_user

    if not of_this_user(connection):
        raise PermissionError("a launcher of another user")
    connection.settimeout(_REQUEST_WITHIN_S)
    head, fds, _, _ = socket.recv_fds(connection, 4, 3, socket.MSG_WAITALL)
    with connection.makefile("rb") as stream:
        fields = json.loads(stream.read(*struct.unpack("i", head)))
    connection.settimeout(None)
    return Request(**fields, standard=list(array.array("i", fds)))


class _Forked(BaseException):
    """Leaves the template's loop, in the process that becomes a worker."""


class _Ended(Exception):
    """The node is gone, or nobody needs the template any more."""


class _Template:
    """One loop without threads: each file it waits on has a function to call when it is ready."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._ready = DefaultSelector()
        self._lives = 0
        self._lived_s = time.monotonic()

    def run(self, raylet: int, worker: int) -> None:
        """Serve until the end. Raises ``_Forked`` in each worker and ``_Ended`` in the template."""
        self._on(self._listener, self._fork)
        self._on(os.pidfd_open(raylet), self._end)
        first = os.pidfd_open(worker)
        self._lives += 1
        self._on(first, lambda: self._bury(first))
        while True:
            for key, _ in self._ready.select(_POLL_S):
                # An earlier call of this round may have closed it, even reused its number
                if self._ready.get_map().get(key.fd) is key:
                    key.data()
            if not self._lives and time.monotonic() - self._lived_s > _IDLE_S:
                self._end()

    def _on(self, file: Any, act: Callable[[], None]) -> None:
        self._ready.register(file, EVENT_READ, act)

    def _end(self) -> None:
        raise _Ended

    def _bury(self, pidfd: int) -> None:
        self._ready.unregister(pidfd)
        os.close(pidfd)
        self._lives -= 1
        self._lived_s = time.monotonic()

    def _fork(self) -> None:
        connection, _ = self._listener.accept()
        try:
            request = receive(connection)
        except (OSError, ValueError, TypeError, struct.error):
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            self._become(request, connection)
        for fd in request.standard:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._lives += 1
        self._on(pidfd, lambda: self._report(pid, pidfd, connection))
        self._on(connection, lambda: self._kill(pidfd, connection))
        with contextlib.suppress(OSError):
            connection.sendall(struct.pack("i", pid))

    def _kill(self, pidfd: int, connection: socket.socket) -> None:
        """Its launcher is gone: the raylet killed it."""
        self._ready.unregister(connection)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _report(self, pid: int, pidfd: int, connection: socket.socket) -> None:
        """Tell the launcher how its worker ended."""
        _, status = os.waitpid(pid, 0)
        self._bury(pidfd)
        with contextlib.suppress(KeyError):
            self._ready.unregister(connection)
        with connection, contextlib.suppress(OSError):
            connection.sendall(struct.pack("i", os.waitstatus_to_exitcode(status)))

    def _become(self, request: Request, connection: socket.socket) -> None:
        """Turn the fork into what the launcher would have been. Raises ``_Forked``."""
        files = [key.fileobj for key in self._ready.get_map().values()]
        self._ready.close()
        for file in [*files, connection]:
            if isinstance(file, socket.socket):
                file.close()
            elif isinstance(file, int):
                os.close(file)
        try:
            request.take_over()
        except OSError:
            os._exit(1)
        raise _Forked


def _serve(path: str, raylet: int, worker: int) -> None:
    """Be the template. Returns in each worker that it forks; the template itself ends here."""
    os.setpgid(0, 0)  # When a worker dies, the raylet kills the worker's whole group
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(128)
        _Template(listener).run(raylet, worker)
    except _Forked:
        return
    except Exception:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os._exit(0)


if __name__ == "__main__":
    main()
