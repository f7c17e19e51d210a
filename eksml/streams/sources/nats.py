"""Reads a subject of JetStream from a number of ours on; NATS keeps nothing about us."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import NotFound, StorageUnavailable
from eksml.streams.batch import Batch
from eksml.streams.sources.base import EndOfSource, Place, Read

if TYPE_CHECKING:
    from nats.aio.client import Client

    from eksml.streams.endpoints.nats import Nats

_MOST = 1000
_WAIT_S = 0.5


async def open_reader(source: Nats, place: Place) -> NatsReader:
    """A reader of the subject, for the first task; the others have nothing to read.

    Raises:
        StorageUnavailable: NATS does not answer.
        NotFound: No stream of JetStream has the subject.
        MissingExtra: nats-py is not installed.
    """
    try:
        import nats
        from nats.errors import Error
        from nats.js.errors import NotFoundError
    except ImportError as error:
        from eksml.streams.endpoints.nats import missing

        raise missing() from error
    try:
        client = await nats.connect(source.servers, connect_timeout=5, max_reconnect_attempts=3)
        reader = NatsReader(source, place, client)
        await reader.subscribe()
        return reader
    except NotFoundError as error:
        told = f"No stream at {source.servers} has the subject {source.subject!r}."
        raise NotFound(told) from error
    except (Error, OSError) as error:
        raise StorageUnavailable(f"NATS at {source.servers}: {error}") from error


class NatsReader:
    """The position is the number of the last message that was given."""

    def __init__(self, source: Nats, place: Place, client: Client) -> None:
        self._source = source
        self._client = client
        self._split = source.subject
        self._mine = place.index == 0
        self._at = int(place.positions.get(self._split, 0))
        self._asking: asyncio.Task[list[Any]] | None = None

    async def subscribe(self) -> None:
        """Have messages sent from the position on, without a consumer that outlives us."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        if not self._mine:
            return
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self._at + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=60.0,
        )
        stream = self._client.jetstream()
        self._subscription = await stream.pull_subscribe(self._source.subject, config=config)

    async def read(self, wait_s: float) -> Read | None:
        if not self._mine:
            raise EndOfSource
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        if not self._asking.done():
            return None
        messages, self._asking = self._asking.result(), None
        if not messages:
            return None
        self._at = messages[-1].metadata.sequence.stream
        return Read(self._split, _batch(messages))

    async def _ask(self) -> list[Any]:
        try:
            found: list[Any] = await self._subscription.fetch(_MOST, timeout=_WAIT_S)
        except TimeoutError:
            return []
        return found

    @property
    def splits(self) -> Sequence[str]:
        return [self._split] if self._mine else []

    def ended(self) -> Sequence[str]:
        return []

    def positions(self) -> dict[str, Any]:
        return {self._split: self._at} if self._mine else {}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Nothing: the stream keeps its messages."""

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._client.close()


def _batch(messages: list[Any]) -> Batch:
    import numpy as np
    import pyarrow as pa

    times = [round(message.metadata.timestamp.timestamp() * 1e6) for message in messages]
    values = pa.array([message.data for message in messages], pa.binary())
    columns = pa.RecordBatch.from_arrays([values], names=["value"])
    return Batch(np.array(times, np.int64), columns=columns)
