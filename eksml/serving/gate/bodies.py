"""Bodies: read within a limit, and parsed without a value in them being able to do harm.

pydantic's parser is used: it refuses what is nested over 200 deep, what isn't UTF-8, lone
surrogates and numbers that JSON doesn't know, each within a millisecond. vLLM parses the same bytes
again with Python's ``json``, which gives the same values for all that passes here; of a field that
stands twice both take the last.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from eksml.serving.gate.asgi import Receive, Scope, header
from eksml.serving.gate.errors import Refused

MOST_BRACKETS = 100_000
"""``[`` and ``{`` of one body, those in texts included: a million empty lists are 2 MB of text, and
seconds of work for whoever looks at them."""
MOST_COMMAS = 1_000_000
"""Likewise; a list of so many numbers takes 50 ms."""

_NUL = b"\\u0000"


class ClientGone(Exception):
    """The client left while its body was read. Caught inside the gate."""


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """The whole body, of at most ``most`` bytes; no more are ever held.

    Raises:
        Refused: 413.
        ClientGone: There is nobody to answer.
    """
    length = header(scope, b"content-length")
    if length.isdecimal() and int(length) > most:
        raise _too_long(most)
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_long(most)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(body: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        Refused: 400; it is something else, holds a NUL, or is made of too many pieces.
    """
    if body.count(b"[") + body.count(b"{") > MOST_BRACKETS:
        raise _too_many(MOST_BRACKETS, "of the signs [ and {")
    if body.count(b",") > MOST_COMMAS:
        raise _too_many(MOST_COMMAS, "commas")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        told = f"The body is not JSON: {str(error)[:200]}."
        raise Refused(400, "invalid_json", told) from None
    if not isinstance(value, dict):
        raise Refused(400, "invalid_json", "The body is not a JSON object. Send {…}.")
    if _NUL in body and _holds_nul(value):
        raise Refused(400, "invalid_value", "A text in the body holds a NUL (\\u0000). Remove it.")
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _too_many(most: int, what: str) -> Refused:
    return Refused(400, "invalid_value", f"The body has over {most:,} {what}. Send less at once.")


def _too_long(most: int) -> Refused:
    told = f"The body is longer than {most:,} bytes. Send less."
    return Refused(413, "body_too_long", told, headers=[(b"connection", b"close")])
