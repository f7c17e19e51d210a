"""Reads shards of Kinesis from sequence numbers of ours; AWS keeps nothing about us."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eksml.errors import StorageUnavailable
from eksml.streams.aws import told
from eksml.streams.batch import Batch
from eksml.streams.sources import shards
from eksml.streams.sources.base import EndOfSource, Place, Read

if TYPE_CHECKING:
    from eksml.streams.endpoints.kinesis import Kinesis, Start

DONE = "done"
"""Position of a shard that was closed and read to its end."""
_MOMENT = "@"
"""Before seconds since the epoch, in a position."""
_MOST_RECORDS = 10_000
_PAUSE_S = 0.25
"""Between looks at one shard: Kinesis gives five answers a second, to all readers together."""
_AGAIN = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
)


@dataclass(frozen=True)
class Answer:
    """What a shard gave."""

    records: list[Any]
    next: str | None
    """Where to look next; None at the end of a closed shard."""


class Shards:
    """The calls that are needed of a stream, from threads."""

    def __init__(self, stream: str) -> None:
        import boto3

        self._stream = stream
        self._what = f"stream {stream!r} of Kinesis"
        self._client: Any = boto3.client("kinesis")

    def parents(self) -> dict[str, list[str]]:
        """Every shard that is kept, open or closed, with its parents."""
        found: dict[str, list[str]] = {}
        with told(self._what):
            for page in self._client.get_paginator("list_shards").paginate(StreamName=self._stream):
                for shard in page["Shards"]:
                    names = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                    found[shard["ShardId"]] = [name for name in names if name]
        return found

    def iterator(self, shard: str, after: str | None) -> str:
        """A place behind a sequence number, at a moment, or at the oldest record."""
        kind: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        if after is not None and after.startswith(_MOMENT):
            moment = float(after.removeprefix(_MOMENT))
            kind = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment}
        elif after is not None:
            kind = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        with told(self._what):
            answer = self._client.get_shard_iterator(StreamName=self._stream, ShardId=shard, **kind)
        return str(answer["ShardIterator"])

    def get(self, shard: str, iterator: str, after: str | None) -> Answer:
        """What comes next; nothing, if Kinesis wants to be left in peace for a moment."""
        with told(self._what):
            try:
                found = self._client.get_records(ShardIterator=iterator, Limit=_MOST_RECORDS)
            except self._client.exceptions.ExpiredIteratorException:
                return Answer([], self.iterator(shard, after))
            except self._client.exceptions.ClientError as error:
                if error.response["Error"]["Code"] not in _AGAIN:
                    raise
                return Answer([], iterator)
        return Answer(found["Records"], found.get("NextShardIterator"))


async def open_reader(source: Kinesis, place: Place) -> KinesisReader:
    """A reader of this task's shards.

    Raises:
        NotFound, AccessDenied, StorageUnavailable: The stream cannot be read.
    """
    calls = await asyncio.to_thread(Shards, source.stream)
    parents = await asyncio.to_thread(calls.parents)
    return KinesisReader(calls, place, parents, _begin(source.start))


def _begin(start: Start) -> str | None:
    """The position to begin at, where no checkpoint knows one; None is the oldest record. «latest»
    is a moment, so that it stays the same and children of shards are read from their first record.
    """
    if start == "earliest":
        return None
    moment = start.timestamp() if isinstance(start, datetime) else time.time()
    return f"{_MOMENT}{moment:.3f}"


class KinesisReader:
    """Positions are by shard: the sequence number of the last record that was given, «done», or
    the moment to begin at.

    A merge of shards that two tasks read raises StorageUnavailable, which has the stream begin
    again from its last checkpoint, with both parents and the child in one task.
    """

    def __init__(
        self, calls: Shards, place: Place, parents: dict[str, list[str]], begin: str | None
    ) -> None:
        self._calls = calls
        self._parents = parents
        known = place.positions
        done = [shard for shard, at in known.items() if at == DONE]
        self._mine = shards.share(parents, done, place.index, place.parallelism)
        # What is done is kept in mind by the first task, as long as Kinesis keeps the shard
        kept = self._mine | ({*done} & {*parents} if place.index == 0 else set())
        if known:  # what it does not name has come since
            begin = None
        self._at: dict[str, str | None] = {s: known.get(s, begin) for s in sorted(kept)}
        self._others_done = {*done} - kept
        self._iterators: dict[str, str] = {}
        self._asking: dict[str, asyncio.Task[Answer]] = {}
        self._looked_s: dict[str, float] = {}

    @property
    def _done(self) -> set[str]:
        return self._others_done | {shard for shard, at in self._at.items() if at == DONE}

    async def read(self, wait_s: float) -> Read | None:
        if not self._mine:
            raise EndOfSource
        for shard in shards.readable(self._mine, self._parents, self._done):
            quiet_s = time.monotonic() - self._looked_s.get(shard, 0.0)
            if shard not in self._asking and quiet_s > _PAUSE_S:
                self._looked_s[shard] = time.monotonic()
                self._asking[shard] = asyncio.create_task(asyncio.to_thread(self._ask, shard))
        for shard, asking in list(self._asking.items()):
            if asking.done():
                del self._asking[shard]
                read = await self._take(shard, asking.result())
                if read is not None:
                    return read
        return None

    def _ask(self, shard: str) -> Answer:
        after = self._at[shard]
        if shard not in self._iterators:
            self._iterators[shard] = self._calls.iterator(shard, after)
        return self._calls.get(shard, self._iterators[shard], after)

    async def _take(self, shard: str, answer: Answer) -> Read | None:
        if answer.records:
            self._at[shard] = answer.records[-1]["SequenceNumber"]
        if answer.next is not None:
            self._iterators[shard] = answer.next
        else:
            await self._end(shard)
        return Read(shard, _batch(answer.records)) if answer.records else None

    async def _end(self, shard: str) -> None:
        """The shard was split or merged: go on with its children, once they are listed.

        Raises:
            StorageUnavailable: One of them has a parent in another task.
        """
        del self._iterators[shard]
        self._parents = await asyncio.to_thread(self._calls.parents)
        if not any(shard in parents for parents in self._parents.values()):
            return
        mine, shared = shards.born(self._mine, self._parents)
        if shared:
            raise StorageUnavailable(
                f"{', '.join(sorted(shared))} came of shards that two tasks read: the tasks begin "
                "again from the last checkpoint, and one of them reads all of these."
            )
        self._mine |= mine
        self._at |= dict.fromkeys(mine)
        self._at[shard] = DONE

    @property
    def splits(self) -> Sequence[str]:
        return sorted(self._mine)

    def ended(self) -> Sequence[str]:
        """While none is left, children are to come: time must not come to its end."""
        ended = [shard for shard in self._mine if self._at[shard] == DONE]
        return ended if len(ended) < len(self._mine) else []

    def positions(self) -> dict[str, Any]:
        return {shard: at for shard, at in self._at.items() if at is not None}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Nothing: Kinesis keeps its records."""

    async def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)


def _batch(records: list[Any]) -> Batch:
    import numpy as np
    import pyarrow as pa

    arrived = [record["ApproximateArrivalTimestamp"].timestamp() for record in records]
    times = np.rint(np.array(arrived) * 1e6).astype(np.int64)
    values = pa.array([record["Data"] for record in records], pa.binary())
    return Batch(times, columns=pa.RecordBatch.from_arrays([values], names=["value"]))
