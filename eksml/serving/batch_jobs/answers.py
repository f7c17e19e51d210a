"""A row's answer, as a line of the output or error file. Pure, but for random identifiers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

from eksml.serving.batch_jobs.engine import Reply
from eksml.serving.batch_jobs.lines import Row
from eksml.serving.batch_jobs.records import Counts
from eksml.serving.batch_jobs.usage import Usage

EXPIRED = "This request could not be executed before the completion window expired."


@dataclass(frozen=True)
class Answer:
    """What became of one row."""

    custom_id: str
    succeeded: bool
    line: bytes
    """With its newline."""
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, row: Row, reply: Reply) -> Self:
        """The engine's answer, good or bad."""
        response = {
            "status_code": reply.status,
            "request_id": reply.request_id or f"req_{secrets.token_hex(12)}",
            "body": reply.body,
        }
        succeeded = reply.status == 200
        usage = Usage.of(reply.body) if succeeded else Usage()
        return cls(row.custom_id, succeeded, _line(row.custom_id, response, None), usage)

    @classmethod
    def without_reply(cls, row: Row, code: str, message: str) -> Self:
        """The row was never answered."""
        error = {"code": code, "message": message}
        return cls(row.custom_id, False, _line(row.custom_id, None, error))


def texts(answers: Iterable[Answer]) -> dict[str, bytes]:
    """The lines of the ``output`` and of the ``errors``."""
    answers = list(answers)
    return {
        "output": b"".join(answer.line for answer in answers if answer.succeeded),
        "errors": b"".join(answer.line for answer in answers if not answer.succeeded),
    }


def counts_of(answers: Iterable[Answer]) -> Counts:
    """How many there are; ``total`` is of these answers."""
    good = [answer.succeeded for answer in answers]
    return Counts(total=len(good), completed=sum(good), failed=len(good) - sum(good))


def usage_of(answers: Iterable[Answer]) -> Usage:
    """Their tokens together."""
    return sum((answer.usage for answer in answers), Usage())


def custom_ids(text: bytes | bytearray) -> set[str]:
    """Whose answers stand in lines that were written here."""
    return {json.loads(line)["custom_id"] for line in bytes(text).splitlines()}


def _line(custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> bytes:
    value = {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    # Plain ASCII: U+2028 and lone surrogates in an answer would break readers of lines or UTF-8
    return json.dumps(value).encode() + b"\n"
