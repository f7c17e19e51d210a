"""The gate before vLLM's application: who may ask what, how much and when. Pure ASGI.

A request to the engine passes, in this order: route, key, deadline, body, its checks, suspects,
limits, queue. What is refused never reaches the application below, and is refused before anything
costly is done with it. An answer passes chunk by chunk, as it comes.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from eksml.serving.answer import Answer
from eksml.serving.gate.asgi import ASGIApp, Headers, Message, Receive, Scope, Send, header, path_of
from eksml.serving.gate.bodies import ClientGone, parse, read_body
from eksml.serving.gate.checks import check
from eksml.serving.gate.deadline import HEADER, deadline_of
from eksml.serving.gate.ending import Ending, Reason
from eksml.serving.gate.engine_state import EngineState
from eksml.serving.gate.errors import Refused, answer, too_late
from eksml.serving.gate.fair_queue import FairQueue
from eksml.serving.gate.keys import Keyring
from eksml.serving.gate.limits import Limits
from eksml.serving.gate.routes import Route, Routes
from eksml.serving.gate.suspects import Suspects, digest_of
from eksml.serving.gate.visit import Means, Request, Visit
from eksml.serving.meters import Meters
from eksml.serving.spec import AppSpec, TenantSpec

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """An ASGI application around another one.

    The application below finds the tenant's name in ``request.state.tenant`` (empty: everybody).

    Args:
        app: vLLM's application, or what holds it together with further routes.
        spec: The application's specification.
        capacity: Requests that run or wait, at most: of them ``engine.slots`` run.
        engine: The state of the engine.
        meters: Told of every request.
        suspects: Requests that may kill engines. Whoever sees the engine die calls its ``died``.
        clock: Seconds.
        share: This replica's part of the tenants' limits: 1 / replicas. Asked often.

    Raises:
        InvalidSpec: The file of tenants is missing or damaged.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        spec: AppSpec,
        capacity: int,
        engine: EngineState,
        meters: Meters,
        suspects: Suspects | None = None,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._spec = spec
        self._routes = Routes(spec)
        self._keys = Keyring(spec, clock)
        slots = min(engine.slots, capacity)
        self.suspects = Suspects(time.time) if suspects is None else suspects
        self._means = Means(
            app=app,
            engine=engine,
            queue=FairQueue(slots, capacity - slots, clock, share),
            limits=Limits(clock, share),
            suspects=self.suspects,
            meters=meters,
            clock=clock,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._means.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:  # a web socket: closed before it was accepted, which is a 403
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    def turn_away(self) -> None:
        """Answer all that wait for a slot: the engine is not ready any more. Those under way are
        ended by their deadlines, or by the engine's death."""
        self._means.queue.turn_away()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, began_s = _request_id(scope), self._means.clock()
        headers = [(b"x-request-id", request_id)]
        tenant = ""
        try:
            route = self._routes.find(scope["method"], path_of(scope))
            if route.kind == "compute" or route.kind == "keep":
                whose = self._keys.tenant_of(header(scope, b"authorization"))
                tenant = whose.name
                call = _Call(route, whose, _with_tenant(scope, tenant), receive, send, headers)
                await (self._compute if route.kind == "compute" else self._keep)(call)
            else:
                await self._without_key(route, scope, receive, send)
        except Refused as refused:
            self._means.meters.refused(
                tenant,
                refused.code,
                status=refused.status,
                route=path_of(scope),
                seconds=self._means.clock() - began_s,
                request_id=request_id.decode("latin-1"),
            )
            await refused.send(send, headers)
        except ClientGone:
            self._means.meters.refused(tenant, "client_gone", route=path_of(scope))

    async def _compute(self, call: _Call) -> None:
        """What the engine has to do."""
        arrived_s = self._means.clock()
        deadline_s = deadline_of(header(call.scope, HEADER), self._spec.limits.deadline_s)
        visit: Visit | None = None
        try:
            async with Ending(deadline_s) as ending:
                body = await read_body(call.scope, call.receive, self._spec.limits.body_bytes)
                ending.watch(call.receive)
                request = self._checked(call, body, arrived_s, deadline_s)
                visit = Visit(request, self._means, ending)
                await visit.run()
            if visit is None:
                raise ClientGone if ending.reason is Reason.GONE else too_late(deadline_s)
            await visit.close()
        finally:
            if visit is not None:
                visit.over()

    def _checked(self, call: _Call, body: bytes, arrived_s: float, deadline_s: float) -> Request:
        path = call.route.path
        return Request(
            scope=call.scope,
            send=call.send,
            route=path,
            tenant=call.tenant,
            asked=check(parse(body), path, self._spec, self._means.engine.context),
            body=body,
            digest=digest_of(path, body),
            headers=call.headers,
            arrived_s=arrived_s,
            deadline_s=deadline_s,
            logged=str(body, "utf-8", "replace") if self._spec.log_prompts else None,
        )

    async def _keep(self, call: _Call) -> None:
        """Pass on what only needs a key; bodies are bounded, but for files."""
        meters, clock = self._means.meters, self._means.clock
        seen, arrived_s = Answer(call.scope, clock, clock()), clock()
        receive = call.receive
        if not call.route.upload:
            body = await read_body(call.scope, receive, self._spec.limits.body_bytes)
            receive = _after(body, receive)
        meters.request_started(call.tenant.name, "", call.route.path)
        try:
            await self._means.app(call.scope, receive, _adding(call.headers, seen, call.send))
        finally:
            meters.request_ended(
                call.tenant.name,
                "",
                call.route.path,
                seen.status or 500,
                clock() - arrived_s,
                request_id=str(call.headers[0][1], "latin-1"),
            )

    async def _without_key(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        engine = self._means.engine
        if route.kind == "open":
            await self._means.app(scope, receive, send)
        elif engine.alive if route.kind == "health" else engine.ready:
            await answer(send, 200, b'{"status":"ok"}')
        else:
            state = "dead" if not engine.alive else "not ready"
            await answer(send, 503, f'{{"status":"{state}"}}'.encode())


@dataclass(frozen=True)
class _Call:
    """A request that has a key."""

    route: Route
    tenant: TenantSpec
    scope: Scope
    receive: Receive
    send: Send
    headers: Headers


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
