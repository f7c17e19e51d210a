"""Where messages go that cannot be handled."""

from __future__ import annotations

from eksml.runs.record import ErrorRecord
from eksml.storage import URI
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.endpoints.sqs import Sqs
from eksml.streams.requests.message import Message

DEAD = "dead"
"""Folder of a run that holds them, with the reason."""


def bury(run: URI, target: Sqs | Kafka | None, message: Message, why: ErrorRecord) -> None:
    """Keep a dead message with the reason, and send it to ``target``; done twice, it is sent twice.

    Raises:
        StorageError: The storage or the target does not take it.
    """
    body = message.body
    letter = {
        "body": body if isinstance(body, str) else body.decode(errors="replace"),
        "error": why.type,
        "message": why.message,
        "traceback": why.traceback,
        "receives": message.receives,
    }
    (run / DEAD / f"{message.id}.json").write_json(letter)
    if isinstance(target, Sqs):
        target.queue().send(str(letter["body"]))
    elif target is not None:
        from eksml.streams.requests.topic import send

        send(target, body)
