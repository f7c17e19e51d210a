"""An application below the gate that does what a test asks of it, and a client before the gate."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import httpx

from eksml.serving.gate import Gate
from eksml.serving.gate.asgi import Message, Receive, Scope, Send
from eksml.serving.meters import NoMeters
from eksml.serving.spec import AppSpec, ModelSpec

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


@dataclass
class Engine:
    """What the gate is told of the engine."""

    ready: bool = True
    alive: bool = True
    context: int = 2048
    slots: int = 4


@dataclass
class Below:
    """Stands where vLLM's application does. ``hold``: nothing is answered before it is set."""

    chunks: list[bytes] | None = None
    """Events of a stream; None: one JSON object."""
    fails_at: int | None = None
    """Raises before this chunk."""
    status: int = 200
    listens: bool = True
    """Whether it ends by itself when it is told that the client left."""
    engine: Engine | None = None
    kills: bool = False
    """Whether the engine dies of a request that says «poison»."""
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[bytes] = field(default_factory=list)
    scopes: list[Scope] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    told: int = 0
    """Requests that saw ``http.disconnect``."""
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.hold.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.scopes.append(scope)
        try:
            await self._answer(receive, send)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _answer(self, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"")
        self.bodies.append(body)
        if self.kills and self.engine is not None and b"poison" in body:
            self.engine.alive = self.engine.ready = False
            await _json(send, 500, {"error": {"message": "EngineDeadError", "code": 500}})
        elif await self._left(receive):
            self.told += 1
        elif self.chunks is None:
            await _json(send, self.status, {"id": "x", "usage": USAGE})
        else:
            await self._stream(send, self.chunks)

    async def _left(self, receive: Receive) -> bool:
        """Wait until the test lets it answer; whether the client left before."""
        if not self.listens:
            await self.hold.wait()
            return False
        held = asyncio.ensure_future(self.hold.wait())
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait([held, gone], return_when=asyncio.FIRST_COMPLETED)
            return not held.done()
        finally:
            held.cancel()
            gone.cancel()

    async def _stream(self, send: Send, chunks: list[bytes]) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for at, chunk in enumerate(chunks):
            if at == self.fails_at:
                raise RuntimeError("the application broke")
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0)
        if self.fails_at == len(chunks):
            raise RuntimeError("the application broke")
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _json(send: Send, status: int, value: Any) -> None:
    headers = [(b"content-type", b"application/json")]
    body = json.dumps(value, separators=(",", ":")).encode()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def event(text: str) -> bytes:
    """An event as vLLM streams it."""
    return f'data: {{"id":"x","choices":[{{"text":"{text}"}}]}}\n\n'.encode()


def app_spec(**fields: Any) -> AppSpec:
    """A specification with a model called «tiny»."""
    model = fields.pop("model", ModelSpec(name="tiny", source="/models/tiny"))
    return AppSpec(model=model, **fields)


def gate_of(below: Any, spec: AppSpec | None = None, **arguments: Any) -> Gate:
    """A gate with room for four that run and four that wait."""
    given: dict[str, Any] = {"capacity": 8, "engine": Engine(), "meters": NoMeters(), **arguments}
    return Gate(below, spec=spec or app_spec(), **given)


def client_of(gate: Gate, key: str | None = None) -> httpx.AsyncClient:
    """Asks the gate, without a network between."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(gate)
    return httpx.AsyncClient(transport=transport, base_url="http://model", headers=headers)


def code_of(answer: httpx.Response) -> str:
    """The error's code, of an answer that must have OpenAI's shape for errors."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["code"])


class Wire:
    """A connection by hand, for what httpx never sends: a client that leaves."""

    def __init__(self, body: bytes, path: str = "/v1/chat/completions") -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"content-type", b"application/json")],
        }
        self._body: list[bytes] = [body]

    async def receive(self) -> Message:
        """ASGI's."""
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """ASGI's."""
        self.sent.append(message)

    @property
    def text(self) -> bytes:
        """All of the body that was sent."""
        return b"".join(message.get("body", b"") for message in self.sent)
