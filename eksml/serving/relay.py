"""Requests passed on to models' own applications over HTTP, byte for byte and chunk by chunk."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from eksml.serving.gate.asgi import Headers, Receive, Send
from eksml.serving.gate.door import Call
from eksml.serving.gate.errors import Refused, cut_short

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 5.0
_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te", b"trailer"),
        *(b"host", b"content-length", b"expect"),
    }
)
"""Headers of one connection, not of the message."""


class Relay:
    """Has the connections to the models, from entering it until it is left."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        import aiohttp

        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S),
            auto_decompress=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def is_ready(self, url: str) -> bool:
        """Whether the application at ``url`` says that it is."""
        import aiohttp

        assert self._session is not None
        try:
            async with self._session.get(f"{url}/ready") as response:
                return response.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def pass_on(self, url: str, body: bytes, call: Call) -> None:
        """Ends when the answer does, or the client leaves, which the model's replica then sees.

        Raises:
            Refused: 503, nobody answers there.
        """
        passing = asyncio.ensure_future(self._exchange(url, body, call))
        leaving = asyncio.ensure_future(_left(call.receive))
        await asyncio.wait([passing, leaving], return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if passing.done():
            await passing
        else:
            passing.cancel()

    async def _exchange(self, url: str, body: bytes, call: Call) -> None:
        import aiohttp

        assert self._session is not None
        begun: aiohttp.ClientResponse | None = None
        try:
            async with self._session.post(url, data=body, headers=_headers(call)) as response:
                await _start(response, call.send)
                begun = response
                async for chunk in response.content.iter_any():
                    part = {"type": "http.response.body", "body": chunk, "more_body": True}
                    await call.send(part)
            await call.send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            if begun is None:
                told = "The model has no replica that answers. Try again in a moment."
                raise Refused(503, "model_unavailable", told, retry_after_s=1) from error
            if not begun.content_type.startswith("text/event-stream"):
                raise  # the connection is broken off, which no client takes for an end
            last = cut_short("the model's replica is gone").event()
            await call.send({"type": "http.response.body", "body": last})


def _headers(call: Call) -> list[tuple[str, str]]:
    """The client's, and the request's name here, by which it goes in the model's log too."""
    own = {name for name, _ in call.headers}
    kept = [each for each in call.scope["headers"] if each[0] not in _HOP and each[0] not in own]
    return [(str(name, "latin-1"), str(value, "latin-1")) for name, value in kept + call.headers]


async def _start(response: aiohttp.ClientResponse, send: Send) -> None:
    headers: Headers = [
        (name, value) for name, value in response.raw_headers if name.lower() not in _HOP
    ]
    if response.content_length is not None:
        headers.append((b"content-length", str(response.content_length).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
