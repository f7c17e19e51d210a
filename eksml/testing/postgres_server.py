"""A PostgreSQL server of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from eksml.errors import MissingExtra
from eksml.testing.ports import free_ports
from eksml.testing.process import Server, takes_connections


class PostgresServer:
    """PostgreSQL, as the system has it, on a free port with a database of its own.

    PostgreSQL does not run as root; where this process does, it runs as ``nobody``.
    """

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix="eksml-postgres-"))
        self._user = "nobody" if os.getuid() == 0 else None
        command = [_binary("postgres"), "-D", str(self._folder / "data"), "-p", str(self._port)]
        command += ["-c", "listen_addresses=127.0.0.1", "-k", str(self._folder)]
        self._server = Server(command, self._folder / "log", user=self._user)

    def __enter__(self) -> Self:
        try:
            if self._user:
                shutil.chown(self._folder, self._user)
            subprocess.run(
                [_binary("initdb"), "-D", self._folder / "data", "-U", "eksml", "-A", "trust"],
                check=True,
                capture_output=True,
                user=self._user,
                cwd="/",
            )
            self._server.start(lambda: takes_connections(self._port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def dsn(self) -> str:
        """What a client connects with."""
        return f"postgresql://eksml@127.0.0.1:{self._port}/postgres"


def _binary(name: str) -> str:
    found = shutil.which(name)
    if found is None:  # Debian keeps most of them out of the way
        places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        if not places:
            raise MissingExtra(f"PostgreSQL's {name} is not installed: apt install postgresql.")
        found = str(places[-1])
    return found
