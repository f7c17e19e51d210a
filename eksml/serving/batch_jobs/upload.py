"""A multipart form with one file, on its way from the client to storage part by part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from eksml.errors import InvalidSpec, Problem
from eksml.serving.batch_jobs.files import FileWriter, StoredFile

_FIELD_BYTES = 1024
_FIELDS = ("purpose", "file")
_MOST_FIELDS = 8


class TooLarge(InvalidSpec):
    """The file is longer than may be uploaded."""


async def store_upload(
    content_type: str, body: AsyncIterator[bytes], writer: FileWriter, *, most_bytes: int
) -> StoredFile:
    """Write the form's ``file`` while it arrives; memory stays bounded by one part.

    Args:
        content_type: The request's header, with the boundary.
        body: The request's body.
        writer: Of the new file. What it wrote is discarded if this raises.
        most_bytes: Longest file.

    Raises:
        InvalidSpec: no such form, a field is wrong or missing: every problem at once.
        TooLarge: the file is too long; told once that is seen, not at its end.
    """
    try:
        form = _Form(_boundary(content_type), writer, most_bytes)
        async for chunk in body:
            form.feed(chunk)
            if writer.is_full:
                await asyncio.to_thread(writer.flush)
        form.check()
        return await asyncio.to_thread(writer.finish, form.filename or "input.jsonl", "batch")
    except BaseException:  # a client that went away, too
        await asyncio.shield(asyncio.to_thread(writer.discard))
        raise


class _Form:
    """The fields of one form, as python-multipart's parser tells of them."""

    def __init__(self, boundary: bytes, writer: FileWriter, most_bytes: int) -> None:
        from python_multipart.multipart import MultipartParser

        self.filename = ""
        self._writer = writer
        self._most_bytes = most_bytes
        self._fields: dict[str, bytearray] = {}
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._name = ""
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _wrong("file", f"The form cannot be read: {error}.") from error

    def check(self) -> None:
        """Raise what is wrong with a form that has arrived."""
        if not self._ended:
            raise _wrong("file", "The form ends before its closing boundary.")
        purpose = bytes(self._fields.get("purpose", b"")).decode("utf-8", "replace")
        unknown = [name for name in self._fields if name not in _FIELDS]
        problems = [Problem(name, "is not a field that is known here.") for name in unknown]
        if "file" not in self._fields:
            problems.append(Problem("file", "is missing."))
        elif not self._writer.size:
            problems.append(Problem("file", "is empty.", "A batch needs at least one line."))
        if purpose != "batch":
            problems.append(Problem("purpose", f"is {purpose!r}.", "Only 'batch' is known here."))
        if problems:
            raise InvalidSpec(problems, "the upload")

    def _begin(self) -> None:
        self._headers = {}

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _open(self) -> None:
        options = _options(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if self._name in self._fields:
            raise _wrong(self._name, "stands in the form twice.")
        if len(self._fields) >= _MOST_FIELDS:
            raise _wrong(self._name, "is one field too many.")
        self._fields[self._name] = bytearray()
        if self._name == "file":
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")[:255]

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name == "file":
            self._writer.append(data[start:end])
            if self._writer.size > self._most_bytes:
                told = f"is longer than {self._most_bytes:,} bytes."
                raise TooLarge([Problem("file", told, "Cut it into several.")], "the upload")
            return
        field = self._fields[self._name]
        field += data[start:end]
        if len(field) > _FIELD_BYTES:
            raise _wrong(self._name, f"is longer than {_FIELD_BYTES:,} bytes.")

    def _end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(content_type)
    boundary: bytes = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 70:  # RFC 2046, 5.1.1
        raise _wrong("content-type", f"{content_type!r:.80} is no multipart/form-data.")
    return boundary


def _options(header: bytes) -> dict[bytes, Any]:
    from python_multipart.multipart import parse_options_header

    return dict(parse_options_header(header)[1])


def _wrong(path: str, message: str) -> InvalidSpec:
    return InvalidSpec([Problem(path, message)], "the upload")
