"""Suspects are let into the engine one by one, so that a second death tells which it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

ALONE_S = 2.0
"""Seconds that a suspect is computed without another one, unless its answer begins before: what
kills an engine does so in its first steps."""
ALL_S = 10.0
"""Seconds in which all that wait are let in. An engine that dies of its hardware leaves as many
suspects as it had slots, all of them innocent: each is alone for less, the more they are."""


class Alone:
    """The door for suspects."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def enter(self) -> Callable[[], None]:
        """Wait until no suspect is alone in there.

        Returns:
            Lets the next one in, if that has not happened yet.
        """
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        left = False

        def leave() -> None:
            nonlocal left
            if not left:
                left = True
                self._turn.release()

        alone_s = min(ALONE_S, ALL_S / (1 + self._waiting))
        asyncio.get_running_loop().call_later(alone_s, leave)
        return leave
