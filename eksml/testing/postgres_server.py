"""A PostgreSQL server of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from eksml.errors import MissingExtra
from eksml.testing.process import OwnServer


class PostgresServer(OwnServer):
    """PostgreSQL, as the system has it, on a free port with a database of its own.

    PostgreSQL does not run as root; where this process does, it runs as ``nobody``.
    """

    name = "postgres"
    _user = "nobody" if os.getuid() == 0 else None

    def _command(self) -> list[str]:
        place = ["-D", str(self._folder / "data"), "-k", str(self._folder), "-p", str(self._port)]
        return [_binary("postgres"), *place, "-c", "listen_addresses=127.0.0.1"]

    def _prepare(self) -> None:
        if self._user:
            shutil.chown(self._folder, self._user)
        subprocess.run(
            [_binary("initdb"), "-D", self._folder / "data", "-U", "eksml", "-A", "trust"],
            check=True,
            capture_output=True,
            user=self._user,
            cwd="/",
        )

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
