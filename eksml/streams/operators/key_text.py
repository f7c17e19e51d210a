"""Keys as text, by which an embedded store finds them, and back: JSON, never pickle."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from eksml.errors import UnsupportedState

Key: TypeAlias = tuple[Any, ...]
"""The values of the key columns."""

_MICROSECOND = timedelta(microseconds=1)


def text_of(key: Key) -> str:
    """The same for equal keys of one type, another for every other key.

    Raises:
        UnsupportedState: It has a value that cannot be written down.
    """
    return json.dumps(key, default=_tagged)


def key_of(text: str) -> Key:
    """The key whose :func:`text_of` this is."""
    return tuple(_untagged(value) for value in json.loads(text))


def _tagged(value: Any) -> dict[str, Any]:
    """What JSON has no word for: ``{type: text}``."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, datetime) and not getattr(value, "nanosecond", 0):
        return {"datetime": value.isoformat(), "zone": getattr(value.tzinfo, "key", None)}
    if isinstance(value, date) and not isinstance(value, datetime):
        return {"date": value.isoformat()}
    if isinstance(value, time):
        return {"time": value.isoformat()}
    if isinstance(value, timedelta) and not getattr(value, "nanoseconds", 0):
        return {"timedelta": value // _MICROSECOND}
    raise UnsupportedState(
        f"the key {value!r:.80} ({type(value).__name__}) cannot be kept on disk. Use numbers, "
        "text, bytes or times of whole microseconds, or give the stream more state_memory."
    )


def _untagged(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "datetime" in value:
        moment = datetime.fromisoformat(value["datetime"])
        return moment.astimezone(ZoneInfo(value["zone"])) if value["zone"] else moment
    if "timedelta" in value:
        return value["timedelta"] * _MICROSECOND
    [(kind, text)] = value.items()
    read = {"bytes": bytes.fromhex, "date": date.fromisoformat, "time": time.fromisoformat}
    return read[kind](text)
