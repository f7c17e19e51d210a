"""One request to the engine, from the door to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from eksml.observe.access_log import Access
from eksml.serving.answer import Answer
from eksml.serving.gate.alone import Alone
from eksml.serving.gate.asgi import ASGIApp, Headers, Message, Scope, Send
from eksml.serving.gate.checks import Asked
from eksml.serving.gate.ending import Ending, Reason
from eksml.serving.gate.engine_state import EngineState
from eksml.serving.gate.errors import Refused, engine_lost, too_late
from eksml.serving.gate.fair_queue import FairQueue, Place, State
from eksml.serving.gate.limits import Limits, Reservation
from eksml.serving.gate.passage import Passage
from eksml.serving.gate.suspects import MOST_VICTIMS, Suspects
from eksml.serving.meters import Meters
from eksml.serving.spec import TenantSpec


@dataclass(frozen=True)
class Means:
    """What the requests of one replica share."""

    app: ASGIApp
    engine: EngineState
    queue: FairQueue
    limits: Limits
    suspects: Suspects
    meters: Meters
    clock: Callable[[], float]
    mourn: Callable[[], Awaitable[None]]
    """Returns once all replicas know what this one's engine died of."""
    alone: Alone = field(default_factory=Alone)
    """For suspects."""


@dataclass(frozen=True)
class Request:
    """A request that was checked, and whose it is."""

    scope: Scope
    send: Send
    route: str
    tenant: TenantSpec
    asked: Asked
    body: bytes
    digest: str
    headers: Headers
    """Of every answer to it."""
    arrived_s: float
    deadline_s: float
    logged: str | None
    """The body as it may stand in the access log."""


class Visit:
    """Takes a request through limits, queue and engine: ``run``, ``close``, ``over``.

    Args:
        request: What is asked.
        means: What all requests share.
        ending: Ends it; entered by the caller around ``run`` alone.
    """

    def __init__(self, request: Request, means: Means, ending: Ending) -> None:
        self._request = request
        self._means = means
        self._ending = ending
        self._answer = Answer(request.scope, means.clock, request.arrived_s)
        self._passage = Passage(
            request.send, means.engine, ending, self._answer, self._headers, self._began
        )
        self._woken = asyncio.Event()
        self._place = Place(request.tenant, max(request.asked.tokens, 1), self._woken.set)
        self._reservation = Reservation(None, 0)
        self._refused: Refused | None = None
        self._started = False
        self._let_next: Callable[[], None] = lambda: None
        self._computed = False
        self._body_sent = False

    async def run(self) -> None:
        """Until it is answered, or ended.

        Raises:
            Refused: It was not let in. Once it is, refusals are ``close``'s to tell.
        """
        if self._means.suspects.suspected(self._request.digest):
            self._let_next = await self._means.alone.enter()
        try:
            self._enter()
            await self._wait()
            await self._compute()
        except Refused as refused:
            if not self._started:
                raise
            self._refused = refused
        finally:
            self._let_next()

    async def close(self) -> None:
        """Say the last word and put everything back; after the ``Ending`` was left."""
        if self._ending.reason is Reason.LATE:
            self._refused = too_late(self._request.deadline_s)
        await self._passage.close(self._refused)

    def over(self) -> None:
        """Put everything back and count it, however it ended."""
        if not self._started:
            return
        tokens_in, tokens_out = self._answer.tokens()
        if self._computed and tokens_in is None:
            used = self._request.asked.prompt_tokens
        else:
            used = tokens_in or 0
        self._reservation.settle(used + (tokens_out or 0))
        self._means.queue.leave(self._place)
        self._tell_ended(tokens_in, tokens_out)

    def _enter(self) -> None:
        means, tenant = self._means, self._request.tenant
        if means.suspects.refused(self._request.digest):
            raise _poisoned()
        if not means.engine.ready:
            raise engine_lost()
        self._reservation = means.limits.take(tenant, self._request.asked.tokens)
        means.queue.enter(self._place)
        if self._place.state is State.REFUSED:
            self._reservation.settle(0)
            raise self._no_room()
        self._started = True
        means.meters.request_started(tenant.name, self._request.asked.model, self._request.route)

    async def _wait(self) -> None:
        """For a slot."""
        if self._place.state is State.WAITING:
            began_s = self._means.clock()
            self._tell_waiting()
            try:
                await self._woken.wait()
            finally:
                if self._place.state is State.WAITING:
                    self._means.queue.leave(self._place)
                self._tell_waiting()
            self._means.meters.waited(self._request.tenant.name, self._means.clock() - began_s)
        if not self._means.engine.ready:
            raise engine_lost()
        if self._place.state is State.REFUSED:
            raise self._no_room()

    async def _compute(self) -> None:
        suspects, digest = self._means.suspects, self._request.digest
        suspects.begin(digest)
        self._computed = True
        self._ending.gentle = True
        try:
            await self._passage.run(self._means.app, self._request.scope, self._receive)
        finally:
            self._ending.gentle = False
            suspects.end(digest, well=self._passage.well, died=not self._means.engine.alive)
        if self._passage.unheard and not self._means.engine.alive:
            # The replica that is asked next shall know what may happen to it
            await self._means.mourn()
            if suspects.refused(digest):
                raise _poisoned()

    async def _receive(self) -> Message:
        if self._body_sent:
            return await self._ending.receive()
        self._body_sent = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    def _began(self) -> None:
        self._let_next()

    def _headers(self) -> Headers:
        return [*self._request.headers, *self._means.limits.headers(self._request.tenant)]

    def _no_room(self) -> Refused:
        seconds = self._means.queue.retry_after_s()
        told = f"The server is busy and its queue is full. Try again in {seconds} s."
        return Refused(429, "queue_full", told, retry_after_s=seconds)

    def _tell_waiting(self) -> None:
        tenant = self._request.tenant.name
        self._means.meters.waiting(tenant, self._means.queue.waiting_of(tenant))

    def _tell_ended(self, tokens_in: int | None, tokens_out: int | None) -> None:
        means, request, passage = self._means, self._request, self._passage
        access = Access(
            tenant=request.tenant.name,
            model=request.asked.model,
            route=request.route,
            status=passage.status,
            seconds=means.clock() - request.arrived_s,
            ttft_s=self._answer.ttft_s,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            request_id=str(request.headers[0][1], "latin-1"),
            error=passage.code or ("engine_error" if self._answer.failed else ""),
            prompt=request.logged,
        )
        means.meters.request_ended(access)


def _poisoned() -> Refused:
    told = (
        f"This request was under way each time that an engine of the model died, {MOST_VICTIMS} "
        "times, and is not tried again. Change it: use fewer or smaller images, a simpler "
        "structured output, a shorter prompt."
    )
    return Refused(422, "request_kills_engine", told)
