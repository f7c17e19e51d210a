"""The engine as a worker uses it: the model's own OpenAI application, called without a network."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol

from eksml.serving.batch_jobs.engine import Reply
from eksml.serving.gate.asgi import ASGIApp, Message, Scope
from eksml.serving.gate.bodies import parse
from eksml.serving.gate.checks import check
from eksml.serving.gate.errors import Refused
from eksml.serving.spec import AppSpec
from eksml.serving.step_times import Leeway

OFFLINE_PRIORITY = 2**32
"""vLLM computes lower numbers first. Clients may say 0 to 2³¹ for their online requests."""
_FREED_S = 1.0
"""An application that is told that its client has gone ends within this, mostly at once."""
_HEADERS = [(b"host", b"localhost"), (b"content-type", b"application/json")]


class EngineState(Protocol):
    """What is to be known of an engine."""

    @property
    def ready(self) -> bool:
        """Whether it can answer."""

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer together."""

    @property
    def slots(self) -> int:
        """Sequences that are computed at once, at most: vLLM's ``max_num_seqs``."""

    def leeway(self, online: int) -> Leeway:
        """What may be computed beside so many online requests without slowing them down."""


class InProcessEngine:
    """A worker's ``Engine`` over an application in the same event loop.

    Rows meet the same checks as online requests, but neither queue nor limits: it is the worker
    that holds them back.
    """

    def __init__(self, app: ASGIApp, spec: AppSpec, state: EngineState) -> None:
        self.online = 0
        """Online requests that the engine has now; kept by whoever lets them in."""
        self._app = app
        self._spec = spec
        self._state = state

    def idle_slots(self) -> int:
        """As ``Engine`` says."""
        return max(0, self._state.slots - self.online) if self._state.ready else 0

    def leeway(self) -> Leeway:
        """As ``Engine`` says."""
        return self._state.leeway(self.online)

    async def submit(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """As ``Engine`` says."""
        try:
            asked = parse(json.dumps(body).encode())
            check(asked, endpoint, self._spec, self._state.context)
        except Refused as refused:
            return Reply(refused.status, json.loads(refused.body()))
        asked["priority"] = OFFLINE_PRIORITY
        return await _call(self._app, endpoint, json.dumps(asked).encode())


async def _call(app: ASGIApp, path: str, data: bytes) -> Reply:
    """One POST. Cancelled, it ends as when a client closes its connection.

    Cancelling the application's task would not do: vLLM computes in a task of its own and ends
    that one when ASGI tells that the client has gone.
    """
    exchange = _Exchange(data)
    task = asyncio.ensure_future(app(_scope(path, data), exchange.receive, exchange.send))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        exchange.gone.set()
        await asyncio.wait([task], timeout=_FREED_S)
        raise
    return exchange.reply()


class _Exchange:
    """One request and its answer."""

    def __init__(self, data: bytes) -> None:
        self.gone = asyncio.Event()
        self._data: bytes | None = data
        self._status = 500
        self._body = bytearray()

    async def receive(self) -> Message:
        if self._data is not None:
            data, self._data = self._data, None
            return {"type": "http.request", "body": data, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    def reply(self) -> Reply:
        try:
            body = json.loads(self._body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            told = self._body[:200].decode("utf-8", "replace")
            body = {"error": {"message": told, "type": "server_error", "param": None, "code": None}}
        return Reply(self._status, body, request_id=str(body.get("id") or ""))


def _scope(path: str, data: bytes) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [*_HEADERS, (b"content-length", str(len(data)).encode())],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
