"""The gate before vLLM's application: who may ask what, how much and when. Pure ASGI.

A request to the engine passes, in this order: route, key, deadline, body, its checks, suspects,
limits, queue. What is refused never reaches the application below, and is refused before anything
costly is done with it. An answer passes chunk by chunk, as it comes.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from eksml.serving.gate.asgi import ASGIApp, Receive, Scope, Send, header
from eksml.serving.gate.bodies import ClientGone, parse, read_body
from eksml.serving.gate.checks import check
from eksml.serving.gate.deadline import HEADER, deadline_of
from eksml.serving.gate.door import Call, Door
from eksml.serving.gate.ending import Ending, Reason
from eksml.serving.gate.engine_state import EngineState
from eksml.serving.gate.errors import too_late
from eksml.serving.gate.fair_queue import FairQueue
from eksml.serving.gate.keys import Keyring
from eksml.serving.gate.limits import Limits
from eksml.serving.gate.routes import Kind, routes_of_model
from eksml.serving.gate.suspects import Suspects, digest_of
from eksml.serving.gate.visit import Means, Request, Visit
from eksml.serving.meters import Meters
from eksml.serving.spec import AppSpec


async def _nobody_to_tell() -> None:
    """There are no other replicas."""


class Gate:
    """An ASGI application around another one.

    The application below finds the tenant's name in ``request.state.tenant`` (empty: everybody).

    Args:
        app: vLLM's application, or what holds it together with further routes.
        spec: The application's specification.
        capacity: Requests that run or wait, at most: of them ``engine.slots`` run.
        engine: The state of the engine.
        meters: Told of every request.
        suspects: Requests that may kill engines.
        clock: Seconds.
        share: This replica's part of the tenants' limits: 1 / replicas. Asked often.
        mourn: Called when the engine died of one of the requests under way, by each of them:
            returns once all replicas know them.

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
        mourn: Callable[[], Awaitable[None]] = _nobody_to_tell,
    ) -> None:
        self._spec = spec
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
            mourn=mourn,
        )
        self._door = Door(
            routes=routes_of_model(spec),
            keys=Keyring(spec, clock),
            meters=meters,
            app=app,
            compute=self._compute,
            probe=self._probe,
            most_bytes=spec.limits.body_bytes,
            clock=clock,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await self._door(scope, receive, send)

    def turn_away(self) -> None:
        """Answer all that wait for a slot: the engine is not ready any more. Those under way are
        ended by their deadlines, or by the engine's death."""
        self._means.queue.turn_away()

    async def _compute(self, call: Call) -> None:
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

    def _checked(self, call: Call, body: bytes, arrived_s: float, deadline_s: float) -> Request:
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

    async def _probe(self, kind: Kind) -> str:
        engine = self._means.engine
        if engine.ready if kind == "ready" else engine.alive:
            return "ok"
        return "not ready" if engine.alive else "dead"
