"""Continuous processing of events on Ray actors: ``eksml.stream`` and what graphs are made of.

>>> import eksml.streams as streams
>>> counts = streams.items([{"word": "a"}]).key_by("word").reduce({"n": "count"})
"""

from eksml.streams.ends import (
    call,
    endpoint,
    files,
    generator,
    http,
    items,
    kafka,
    kinesis,
    nats,
    postgres,
    served,
    sqs,
)
from eksml.streams.graph import Stream
from eksml.streams.operators.process import Timing
from eksml.streams.operators.side import Side
from eksml.streams.requests.ledger import Job
from eksml.streams.requests.verb import on_event
from eksml.streams.verb import stream
from eksml.streams.windows import session, sliding, tumbling
from eksml.streams.wishes import drain, pause, rescale, resume, savepoint

__all__ = [
    "Job",
    "Side",
    "Stream",
    "Timing",
    "call",
    "drain",
    "endpoint",
    "files",
    "generator",
    "http",
    "items",
    "kafka",
    "kinesis",
    "nats",
    "on_event",
    "pause",
    "postgres",
    "rescale",
    "resume",
    "savepoint",
    "served",
    "session",
    "sliding",
    "sqs",
    "stream",
    "tumbling",
]
