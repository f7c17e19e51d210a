"""A queue of SQS, at either end of a stream, or as the source of requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eksml.errors import Problem
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee, Place, Reader, Source

if TYPE_CHECKING:
    from eksml.streams.requests.queue import Queue

_MOST_S = 43_200
"""SQS's own limit: 12 hours."""


@dataclass(frozen=True)
class Sqs(Source, Sink):
    """As a source, messages are deleted when a checkpoint holds what they did. They cannot be read
    again, and one that another worker gets because this one slept longer than ``visibility_s``
    counts twice. As a sink, events are sent when their checkpoint stands; a crash meanwhile sends
    some again.
    """

    kind: ClassVar[str] = "sqs"
    source_guarantee: ClassVar[Guarantee] = "at-least-once"
    sink_guarantee: ClassVar[Guarantee] = "at-least-once"
    name: str
    visibility_s: int = 60

    def problems(self) -> Iterator[Problem]:
        if not isinstance(self.name, str) or not self.name:
            yield Problem("name", f"{self.name!r:.60} is no name or URL of a queue.")
        if type(self.visibility_s) is not int or not 1 <= self.visibility_s <= _MOST_S:
            message = f"{self.visibility_s!r} is no whole number of seconds from 1 to {_MOST_S}."
            yield Problem("visibility_s", message)

    def queue(self) -> Queue:
        """A client for it."""
        from eksml.streams.requests.queue import Queue

        return Queue(self.name, self.visibility_s)

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.sqs import SqsReader

        return SqsReader(self.queue(), self.visibility_s, place)

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.sqs import SqsWriter

        return SqsWriter(self.queue(), desk)
