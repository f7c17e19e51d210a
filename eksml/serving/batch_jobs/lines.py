"""The lines of a batch's input: cutting them out of parts, and what each must be. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

BLOCK_ROWS = 64
"""Lines that are answered, written and committed together."""
_BOM = b"\xef\xbb\xbf"
"""Some editors begin a file with it; of files that were put together, it begins any line."""
_CUSTOM_ID_CHARS = 512


@dataclass(frozen=True)
class Line:
    """One line of a file."""

    number: int
    """From 1; empty lines count."""
    start: int
    """First byte in the file."""
    stop: int
    """End, its newline included."""
    text: bytes
    """Without the newline."""


@dataclass(frozen=True)
class Block:
    """Successive lines of the input, as bytes ``start`` to ``stop`` of the file."""

    index: int
    start: int
    stop: int
    rows: int
    """Lines in it that hold a request; empty ones do not."""


@dataclass(frozen=True)
class Row:
    """One request of a batch."""

    custom_id: str
    body: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """Why a line is no request."""

    code: str
    message: str
    param: str | None = None


class LineTooLong(ValueError):
    """A line is longer than a request may be."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def lines_of(chunks: Iterable[bytes | bytearray], most_bytes: int) -> Iterator[Line]:
    """The lines of a file that comes in chunks, empty ones left out.

    Memory is bounded by a chunk and the longest line.

    Raises:
        LineTooLong: a line has more than ``most_bytes``.
    """
    number, at, waiting = 0, 0, bytearray()
    for chunk in chunks:
        waiting += chunk
        begin = 0
        while (end := waiting.find(b"\n", begin)) >= 0:
            number += 1
            yield from _line(number, at + begin, at + end + 1, waiting[begin:end], most_bytes)
            begin = end + 1
        del waiting[:begin]
        at += begin
        if len(waiting) > most_bytes:
            raise LineTooLong(number + 1)
    yield from _line(number + 1, at, at + len(waiting), waiting, most_bytes)


def _line(number: int, start: int, stop: int, text: bytearray, most_bytes: int) -> Iterator[Line]:
    if len(text) > most_bytes:
        raise LineTooLong(number)
    plain = bytes(text).removeprefix(_BOM)
    if plain.strip():
        yield Line(number, start, stop, plain)


def blocks_of(lines: Iterable[Line], rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """The lines in blocks of ``rows`` each, the last one shorter."""
    index, count, start, stop = 0, 0, 0, 0
    for line in lines:
        if not count:
            start = line.start
        count, stop = count + 1, line.stop
        if count == rows:
            yield Block(index, start, stop, count)
            index, count = index + 1, 0
    if count:
        yield Block(index, start, stop, count)


def read_row(text: bytes, endpoint: str) -> Row | Fault:
    """What a line asks for, or why that cannot be told."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault("invalid_json_line", f"This line is not JSON: {error}.")
    if not isinstance(value, dict):
        return Fault("invalid_json_line", "This line is JSON, but not an object.")
    return _fault_in(value, endpoint) or Row(value["custom_id"], value["body"])


def model_of(text: bytes) -> str | None:
    """The model that a line names, if it is a request; a hint, checked later."""
    try:
        model = json.loads(text)["body"]["model"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    return model if isinstance(model, str) else None


def _fault_in(value: dict[str, Any], endpoint: str) -> Fault | None:
    custom_id, url, body = value.get("custom_id"), value.get("url"), value.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _CUSTOM_ID_CHARS:
        told = f"custom_id must be a text of 1 to {_CUSTOM_ID_CHARS} characters."
        return Fault("missing_required_parameter", told, "custom_id")
    if value.get("method") != "POST":
        return Fault(
            "invalid_method", f"{value.get('method')!r:.40}: only POST is known.", "method"
        )
    if url != endpoint:
        told = f"{url!r:.80} is not the batch's endpoint {endpoint}."
        return Fault("mismatched_endpoint", told, "url")
    if not isinstance(body, dict):
        return Fault("missing_required_parameter", "body must be an object.", "body")
    if not isinstance(body.get("model"), str):
        return Fault("missing_required_parameter", "body.model must name a model.", "body.model")
    if body.get("stream"):
        told = "An answer in a file cannot be streamed: leave stream out."
        return Fault("invalid_parameter", told, "body.stream")
    return None
