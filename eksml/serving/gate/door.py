"""The door of an application: which requests come in at all, by route and key. Pure ASGI."""

from __future__ import annotations

import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eksml.observe.access_log import Access
from eksml.serving.answer import Answer
from eksml.serving.gate.asgi import ASGIApp, Headers, Message, Receive, Scope, Send, header, path_of
from eksml.serving.gate.bodies import ClientGone, read_body
from eksml.serving.gate.errors import CLIENT_GONE, Refused, answer
from eksml.serving.gate.keys import Keyring
from eksml.serving.gate.routes import Kind, Route, Routes
from eksml.serving.meters import Meters
from eksml.serving.spec import TenantSpec

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Call:
    """A request that has a key."""

    route: Route
    tenant: TenantSpec
    scope: Scope
    receive: Receive
    send: Send
    headers: Headers
    """Of every answer to it; the first is its ``x-request-id``."""

    @property
    def request_id(self) -> str:
        """As the client is told it."""
        return str(self.headers[0][1], "latin-1")


@dataclass(frozen=True)
class Door:
    """An ASGI application. Those behind it find the tenant's name in ``request.state.tenant``
    (empty: everybody)."""

    routes: Routes
    keys: Keyring
    meters: Meters
    """Told of what is refused, and of what ``app`` answers to a tenant."""
    app: ASGIApp
    """Answers what an engine has nothing to do with, and hears of the lifespan."""
    compute: Callable[[Call], Awaitable[None]]
    """Answers the rest. May raise ``Refused`` before its answer begins, and ``ClientGone``."""
    probe: Callable[[Kind], Awaitable[str]]
    """How it is, for ``health`` and ``ready``: ``ok``, or what is wrong."""
    most_bytes: int
    """Longest body, but of files, that ``app`` is given."""
    clock: Callable[[], float]
    """Seconds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a web socket: closed before it was accepted, which is a 403
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-request-id", _request_id(scope))]
        began_s, tenant = self.clock(), ""
        try:
            route = self.routes.find(scope["method"], path_of(scope))
            if route.kind == "compute" or route.kind == "keep":
                whose = self.keys.tenant_of(header(scope, b"authorization"))
                tenant = whose.name
                call = Call(route, whose, _with_tenant(scope, tenant), receive, send, headers)
                await (self.compute if route.kind == "compute" else self._keep)(call)
            else:
                await self._without_key(route, scope, receive, send)
        except (Refused, ClientGone) as error:
            refused = error if isinstance(error, Refused) else None
            access = Access(
                tenant=tenant,
                model="",
                route=path_of(scope),
                status=refused.status if refused else CLIENT_GONE,
                seconds=self.clock() - began_s,
                request_id=headers[0][1].decode("latin-1"),
                error=refused.code if refused else "client_gone",
            )
            self.meters.refused(access)
            if refused is not None:
                await refused.send(send, headers)

    async def _keep(self, call: Call) -> None:
        """Pass on what only needs a key; bodies are bounded, but for files."""
        arrived_s = self.clock()
        seen = Answer(call.scope, self.clock, arrived_s)
        receive = call.receive
        if not call.route.upload:
            receive = _after(await read_body(call.scope, receive, self.most_bytes), receive)
        self.meters.request_started(call.tenant.name, "", call.route.path)
        try:
            await self.app(call.scope, receive, _adding(call.headers, seen, call.send))
        finally:
            access = Access(
                tenant=call.tenant.name,
                model="",
                route=call.route.path,
                status=seen.status or 500,
                seconds=self.clock() - arrived_s,
                request_id=call.request_id,
            )
            self.meters.request_ended(access)

    async def _without_key(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        if route.kind == "open":
            await self.app(scope, receive, send)
        else:
            state = await self.probe(route.kind)
            await answer(send, 200 if state == "ok" else 503, f'{{"status":"{state}"}}'.encode())


def _with_tenant(scope: Scope, tenant: str) -> Scope:
    return {**scope, "state": {**scope.get("state", {}), "tenant": tenant}}


def _request_id(scope: Scope) -> bytes:
    """The client's own, if it is fit for logs and headers."""
    given = header(scope, b"x-request-id")
    return (given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex).encode()


def _after(body: bytes, receive: Receive) -> Receive:
    """A body that was read, then what else comes."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _adding(headers: Headers, seen: Answer, send: Send) -> Send:
    async def add(message: Message) -> None:
        seen.see(message)
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return add
