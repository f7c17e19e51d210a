"""Events that are pushed by HTTP, as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from eksml.errors import Problem
from eksml.streams.sources.base import Guarantee, Place, Reader, Source

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Http(Source):
    """Every worker listens. A request is answered when a checkpoint holds its events; what was not
    answered has to be sent again, and may then count twice."""

    kind: ClassVar[str] = "http"
    source_guarantee: ClassVar[Guarantee] = "at-least-once"
    port: int
    path: str = "/"
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    def problems(self) -> Iterator[Problem]:
        if type(self.port) is not int or not 0 < self.port < 65_536:
            yield Problem("port", f"{self.port!r} is no number of a port.", "Write http(8080).")
        if not isinstance(self.path, str) or not self.path.startswith("/"):
            yield Problem("path", f"{self.path!r:.60} is no path.", 'Write "/events".')
        if self.host not in _LOOPBACK and not self.token:
            message = f"{self.host!r:.60} lets the network in, and no token keeps anybody out."
            yield Problem("token", message, "Give a token, which clients send as bearer.")

    async def reader(self, place: Place) -> Reader:
        from eksml.streams.sources.http import HttpReader

        reader = HttpReader(self, place)
        await reader.listen()
        return reader
