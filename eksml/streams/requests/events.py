"""What a message asks for: S3's notifications as one event for each object, JSON as it is. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus


@dataclass(frozen=True)
class Request:
    """One thing to do."""

    id: str
    """The same for everything that asks for the same: a message that comes again, or a second
    notification of one upload."""
    event: dict[str, Any]


def requests_of(body: str | bytes, message_id: str) -> list[Request]:
    """What a message asks for: nothing, if it is empty or S3's test of the notification.

    An event of S3 has ``bucket``, ``key``, ``size``, ``etag`` and ``event``.

    Raises:
        ValueError: The body is no JSON object.
    """
    if not body:
        return []
    value = json.loads(body)
    if not isinstance(value, dict):
        raise ValueError("the message is no JSON object")
    if value.get("Event") == "s3:TestEvent":
        return []
    records = value.get("Records")
    if isinstance(records, list) and records and all("s3" in record for record in records):
        return [_of_s3(record) for record in records]
    return [Request(_digest(message_id), value)]


def _of_s3(record: dict[str, Any]) -> Request:
    bucket, item = record["s3"]["bucket"]["name"], record["s3"]["object"]
    key = unquote_plus(item["key"])
    event = {
        "bucket": bucket,
        "key": key,
        "size": item.get("size"),
        "etag": item.get("eTag"),
        "event": record.get("eventName", ""),
    }
    # The sequencer tells versions of one object apart; without one, the time does
    version = item.get("sequencer") or record.get("eventTime", "")
    return Request(_digest(bucket, key, str(version)), event)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
