"""Listens for events that are pushed, and answers once a checkpoint holds them."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import StorageUnavailable
from eksml.streams.batch import Batch, Event
from eksml.streams.sources.base import Place, Read

if TYPE_CHECKING:
    from aiohttp import web

    from eksml.streams.endpoints.http import Http

_MOST_BYTES = 16 << 20
"""Of one request."""
_MOST_HELD = 50_000
"""Events that wait for their checkpoint; with more, clients are told to come again."""
_MOST_EVENTS = 4096
"""Of one read."""


class HttpReader:
    """The position is the number of the last request that was given. Positions of earlier readers
    say nothing: who got no answer sends again."""

    def __init__(self, source: Http, place: Place) -> None:
        self._source = source
        self._split = f"http-{place.index:04d}"
        self._waiting: deque[tuple[int, list[Event]]] = deque()
        self._answers: dict[int, asyncio.Future[bool]] = {}
        self._sizes: dict[int, int] = {}
        self._taken = self._given = int(place.positions.get(self._split, 0))
        self._runner: web.AppRunner | None = None

    async def listen(self) -> None:
        """Open the port; workers of one machine share it.

        Raises:
            StorageUnavailable: The port cannot be had.
        """
        from aiohttp import web

        application = web.Application(client_max_size=_MOST_BYTES)
        application.router.add_post(self._source.path, self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        place = self._source.host, self._source.port
        try:
            await web.TCPSite(self._runner, *place, reuse_port=True).start()
        except OSError as error:
            await self._runner.cleanup()
            raise StorageUnavailable(
                f"Nobody can listen on {place[0]}:{place[1]}: {error}"
            ) from error

    async def _take(self, request: web.Request) -> web.Response:
        from aiohttp import web

        if not self._may_push(request):
            return web.Response(status=401, text="The bearer token is missing or wrong.\n")
        if sum(self._sizes.values()) >= _MOST_HELD:
            return _come_again("More events wait for their checkpoint than may.")
        try:
            events = _events(await request.read())
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        self._taken += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._taken], self._sizes[self._taken] = answer, len(events)
        self._waiting.append((self._taken, events))
        if await answer:
            return web.json_response({"events": len(events)})
        return _come_again("The worker ended before a checkpoint held the events.")

    def _may_push(self, request: web.Request) -> bool:
        if self._source.token is None:
            return True
        wanted = f"Bearer {self._source.token}".encode()
        return hmac.compare_digest(request.headers.get("Authorization", "").encode(), wanted)

    async def read(self, wait_s: float) -> Read | None:
        events: list[Event] = []
        while self._waiting and len(events) < _MOST_EVENTS:
            self._given, more = self._waiting.popleft()
            events += more
        return Read(self._split, _batch(events)) if events else None

    @property
    def splits(self) -> Sequence[str]:
        return [self._split]

    def ended(self) -> Sequence[str]:
        return []

    def positions(self) -> dict[str, Any]:
        return {self._split: self._given}

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Answer the requests whose events a checkpoint holds."""
        for number in [each for each in self._answers if each <= positions[self._split]]:
            self._answer(number, True)

    def _answer(self, number: int, held: bool) -> None:
        del self._sizes[number]
        answer = self._answers.pop(number)
        if not answer.done():
            answer.set_result(held)

    async def close(self) -> None:
        for number in list(self._answers):
            self._answer(number, False)
        if self._runner is not None:
            await self._runner.cleanup()


def _events(body: bytes) -> list[Event]:
    """The events of a request.

    Raises:
        ValueError: It is neither a JSON object nor a list of them.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"The body is not JSON: {error}") from error
    events = value if isinstance(value, list) else [value]
    if not all(isinstance(event, dict) for event in events):
        raise ValueError("Send a JSON object, or a list of objects.")
    return events


def _come_again(why: str) -> web.Response:
    from aiohttp import web

    return web.Response(status=503, text=f"{why} Send them again.\n", headers={"Retry-After": "1"})


def _batch(events: list[Event]) -> Batch:
    import numpy as np

    return Batch(np.full(len(events), time.time_ns() // 1000, np.int64), rows=events)
