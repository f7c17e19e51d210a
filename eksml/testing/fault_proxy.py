"""A proxy that makes a server misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from eksml.testing.ports import free_ports

_CHUNK = 2**18
_REFUSALS = {"503": "SlowDown", "409": "ConditionalRequestConflict"}

Fault = Literal["503", "409", "reset", "lost", "cut", "hang"]
"""What can happen to a request.

``503``: refused with SlowDown · ``409``: refused with ConditionalRequestConflict ·
``reset``: cut before the server sees it · ``lost``: done by the server, but the answer is reset ·
``cut``: half of the answer arrives · ``hang``: nothing happens.
"""


@dataclass(frozen=True)
class Seen:
    """A request that reached the proxy."""

    method: str
    target: str
    """Path and query."""
    fault: Fault | None


@dataclass
class _Planned:
    fault: Fault
    method: str
    target: str
    skip: int


class FaultProxy:
    """An HTTP proxy before ``upstream`` that injects faults, in a thread of its own.

    ``fail_503``, ``reset`` and ``cut`` are shares of requests (0 to 1), drawn from ``seed``, which
    is printed; half of the resets come after the server has done its work. ``delay_s`` is added to
    every request. Requests pass unchanged, so that signatures stay valid.
    """

    def __init__(
        self,
        upstream: str,
        *,
        seed: int | None = None,
        fail_503: float = 0.0,
        reset: float = 0.0,
        cut: float = 0.0,
        delay_s: float = 0.0,
    ) -> None:
        self.seed = secrets.randbits(32) if seed is None else seed
        self.seen: list[Seen] = []
        """Every request so far, in the order of arrival."""
        self._upstream = urlsplit(upstream)
        self._shares: dict[Fault, float] = {
            "503": fail_503,
            "reset": reset / 2,
            "lost": reset / 2,
            "cut": cut,
        }
        self._delay_s = delay_s
        self._random = random.Random(self.seed)
        self._planned: list[_Planned] = []
        self._on = True
        self._port = free_ports(1)[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy")
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        print(f"FaultProxy seed={self.seed}")
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def endpoint(self) -> str:
        """``http://host:port``."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def num_requests(self) -> int:
        return len(self.seen)

    @property
    def faults(self) -> Counter[Fault]:
        """How often each fault was injected."""
        return Counter(seen.fault for seen in list(self.seen) if seen.fault)

    def on(self) -> None:
        """Inject random faults from now on; so it begins."""
        self._on = True

    def off(self) -> None:
        """Inject no random faults and no delay from now on."""
        self._on = False

    def once(self, fault: Fault, *, method: str = "", target: str = "", skip: int = 0) -> None:
        """Inject ``fault`` once: into the next request, or the one after ``skip`` more, that has
        this method and has ``target`` in its path or query."""
        self._planned.append(_Planned(fault, method, target, skip))

    def down(self) -> None:
        """Refuse connections and drop those that are open."""
        self._run(self._stop())

    def up(self) -> None:
        """Take connections again, at the same address."""
        self._run(self._start())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection carries one request, so that nothing but its head has to be parsed."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            # A client that goes away is what the tests are about
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._exchange(_Client(reader, writer))
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _exchange(self, client: _Client) -> None:
        await client.read_head()
        fault = self._draw(client.method, client.target)
        self.seen.append(Seen(client.method, client.target, fault))
        if self._on and self._delay_s:
            await asyncio.sleep(self._delay_s)
        if fault == "hang":
            await asyncio.Event().wait()
        elif fault == "reset":
            client.reset()
        elif fault in _REFUSALS:
            await client.refuse(int(fault), _REFUSALS[fault])
        else:
            await self._forward(client, fault)

    async def _forward(self, client: _Client, fault: Fault | None) -> None:
        address = self._upstream
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        upload = asyncio.create_task(client.upload_to(writer))
        try:
            if fault is None:
                while chunk := await reader.read(_CHUNK):
                    await client.send(chunk)
                return
            answer = await reader.read()
            if fault == "lost":
                client.reset()
            else:
                await client.send(answer[: len(answer) - max(1, _body_size(answer) // 2)])
        finally:
            upload.cancel()
            writer.close()

    def _draw(self, method: str, target: str) -> Fault | None:
        for planned in self._planned:
            if planned.method in ("", method) and planned.target in target:
                if planned.skip == 0:
                    self._planned.remove(planned)
                    return planned.fault
                planned.skip -= 1
        if not self._on:
            return None
        drawn = self._random.random()
        for fault, share in self._shares.items():
            if drawn < share:
                return fault
            drawn -= share
        return None


class _Client:
    """The near side of a connection: one request in, one answer out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._headers: dict[bytes, bytes] = {}
        self._lines: list[bytes] = []
        self.method = ""
        self.target = ""

    async def read_head(self) -> None:
        head = await self._reader.readuntil(b"\r\n\r\n")
        self._lines = head.rstrip().split(b"\r\n")
        self.method, self.target, _ = self._lines[0].decode().split(" ", 2)
        pairs = (line.partition(b":") for line in self._lines[1:])
        self._headers = {name.lower(): value.strip() for name, _, value in pairs}

    async def upload_to(self, upstream: asyncio.StreamWriter) -> None:
        # Neither of the two headers is signed. Closing ends the answer without parsing it.
        hop = (b"expect:", b"connection:")
        kept = [line for line in self._lines if not line.lower().startswith(hop)]
        upstream.write(b"\r\n".join([*kept, b"Connection: close", b"", b""]))
        if b"expect" in self._headers:
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while chunk := await self._reader.read(_CHUNK):
            upstream.write(chunk)
            await upstream.drain()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def refuse(self, status: int, code: str) -> None:
        """Answer an error, like S3: before the body where the client asks first, else after it."""
        if b"expect" not in self._headers:
            await self._reader.readexactly(int(self._headers.get(b"content-length", 0)))
        body = f"<Error><Code>{code}</Code><Message>Injected.</Message></Error>"
        lines = [
            f"HTTP/1.1 {status} {code}",
            "Connection: close",
            "Content-Type: application/xml",
            f"Content-Length: {len(body)}",
            "",
            "" if self.method == "HEAD" else body,
        ]
        await self.send("\r\n".join(lines).encode())

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        near: socket.socket = self._writer.get_extra_info("socket")
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def _body_size(answer: bytes) -> int:
    return len(answer.partition(b"\r\n\r\n")[2])
