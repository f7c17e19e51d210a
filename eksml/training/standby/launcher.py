"""Starts a Ray worker: as a fork of a template where one listens, else as usual.

Runs by itself under ``python -I -S`` and imports little, so that it is up in 30 ms. It stays while
the worker lives, as the process that the raylet started, and ends as the worker ends.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import sys
from collections.abc import Sequence
from select import select
from typing import NoReturn

TEMPLATE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "template.py")
_ANSWER_WITHIN_S = 5.0


def socket_path(argv: Sequence[str]) -> str:
    """Where the template listens that this start may use: in the folder of its Ray session.

    The name depends on the node and on the whole environment, so that a fork never has other
    settings than a fresh start.

    Raises:
        OSError: There is no such folder that only this user may enter.
    """
    arguments = dict(argument.partition("=")[::2] for argument in argv)
    folder = os.path.join(os.path.dirname(arguments.get("--raylet-name", "")), "eksml")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others")
    identity = [arguments.get("--node-id"), sys.version, TEMPLATE, sorted(os.environ.items())]
    return os.path.join(folder, hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12])


def of_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end belongs to the user of this one."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == os.getuid())


def main() -> NoReturn:
    """Become the worker, or the one who waits for it."""
    argv = sys.argv[1:]
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_ANSWER_WITHIN_S)
        connection.connect(socket_path(argv))
        pid = _ask(connection, argv)
    except OSError:
        os.execv(sys.executable, [sys.executable, TEMPLATE, *argv])
    connection.settimeout(None)
    _end_as(connection, pid)


def _ask(connection: socket.socket, argv: Sequence[str]) -> int:
    """Have a worker forked; its pid.

    Raises:
        OSError: There is none. A worker that was forked nevertheless ends with the connection.
    """
    if not of_this_user(connection):
        raise PermissionError("the template belongs to another user")
    request = json.dumps({"argv": argv, "cwd": os.getcwd(), "group": os.getpgrp()}).encode()
    standard = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    connection.sendmsg([struct.pack("i", len(request))], standard)
    connection.sendall(request)
    answer = connection.recv(4)
    if len(answer) < 4:
        connection.close()
        raise ConnectionError("the template did not answer")
    return int(struct.unpack("i", answer)[0])


def _end_as(connection: socket.socket, pid: int) -> NoReturn:
    """Wait for the worker and end the way it did. When this process dies first, so does it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answer = connection.recv(4)
    if len(answer) < 4:
        _wait(pid)
        os._exit(1)
    status = int(struct.unpack("i", answer)[0])
    if status < 0:
        _die_of(-status)
    os._exit(status)


def _wait(pid: int) -> None:
    """Wait for a worker that has lost its template."""
    try:
        select([os.pidfd_open(pid)], [], [])
    except ProcessLookupError:
        return


def _die_of(number: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # The worker's own core matters
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main()
