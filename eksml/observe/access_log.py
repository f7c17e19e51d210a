"""The access log: one JSON object a line, for every request that ended or was refused."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

_LONGEST_ID = 128


@dataclass(frozen=True)
class Access:
    """What one line says. What is None or empty is left out."""

    tenant: str
    """Whose request it was; empty where there are no tenants, or the key was wrong."""
    model: str
    """Which model it asked; empty if none, or none of ours."""
    route: str
    """The path."""
    status: int
    """That was sent; 499 if the client went away before the end."""
    seconds: float
    """From the request's arrival to its last byte."""
    ttft_s: float | None = None
    """From its arrival to the first byte of a streamed answer's body."""
    tokens_in: int | None = None
    """Of the prompt, if the answer said."""
    tokens_out: int | None = None
    """Of the answer, likewise."""
    request_id: str = ""
    """What the client was told in ``x-request-id``."""
    error: str = ""
    """The ``code`` of the error that was sent, in a stream too."""
    prompt: str | None = None
    """The request's body; given only where prompts are to be logged."""


class AccessLog:
    """Writes lines. Keys and prompts are not in them: nothing of a request is but what
    :class:`Access` names, and its ``prompt`` is only given where the configuration says so.

    Args:
        write: Takes a line with its end; the standard output unless given.
        now: Seconds since 1970.
    """

    def __init__(
        self, write: Callable[[str], object] | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._write = write or _to_stdout
        self._now = now

    def tell(self, access: Access) -> None:
        """Write a line."""
        self._write(line(access, self._now()) + "\n")


def line(access: Access, at_s: float) -> str:
    """One access as JSON; ``at`` is in UTC, times are in seconds to 0.1 ms."""
    fields = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))
        + f".{int(at_s % 1 * 1000):03}Z",
        "request_id": access.request_id[:_LONGEST_ID],
        "tenant": access.tenant,
        "model": access.model,
        "route": access.route,
        "status": access.status,
        "seconds": round(access.seconds, 4),
        "ttft_s": None if access.ttft_s is None else round(access.ttft_s, 4),
        "tokens_in": access.tokens_in,
        "tokens_out": access.tokens_out,
        "error": access.error,
        "prompt": access.prompt,
    }
    return json.dumps({name: value for name, value in fields.items() if value not in (None, "")})


def _to_stdout(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
