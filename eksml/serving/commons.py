"""What the replicas of one model know together: how many they are, and which requests kill engines.

A small actor of Ray's beside them, which each replica tells every second. It is in no request's
way: if it is gone, replicas go by what they knew, and a new one is told all again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from eksml.serving.gate.suspects import Suspects

TELL_S = 1.0
HEARD_S = TELL_S + 0.5
"""Until what one replica told is known to all."""
SILENT_S = 5.0
"""A replica that has said nothing for so long is none any more. Of what it ran then, one request
may have killed it, if it did not say that it goes."""

_ALL_SEE_IT_S = 0.1
"""Until each request under way knows that the engine is dead."""
_NAMESPACE = "eksml"

logger = logging.getLogger("eksml.serving")


class Common:
    """The memory behind it. All methods are called by one thread.

    Args:
        clock: Seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known = Suspects(clock)
        self._told: dict[str, tuple[float, dict[str, Any]]] = {}

    def tell(self, replica: str, suspects: dict[str, Any]) -> dict[str, Any]:
        """What a replica remembers.

        Returns:
            ``suspects``, what all of them remember, and ``replicas``, how many they are.

        Raises:
            Damaged: It is no list of suspects.
        """
        self._known.merge(suspects)
        self._told[replica] = (self._clock(), suspects)
        self._bury()
        return {"suspects": self._known.to_json(), "replicas": len(self._told)}

    def leave(self, replica: str) -> None:
        """A replica goes in peace."""
        self._told.pop(replica, None)

    def _bury(self) -> None:
        now_s = self._clock()
        for replica, (at_s, suspects) in list(self._told.items()):
            if now_s - at_s > SILENT_S:
                del self._told[replica]
                self._known.merge(suspects, died=True)


class Commons:
    """A replica's hold on them.

    Args:
        app: The application that the replica is of.
        replica: Its name, unique.
        suspects: What it remembers, and is told of.
    """

    def __init__(self, app: str, replica: str, suspects: Suspects) -> None:
        self._app = app
        self._replica = replica
        self._suspects = suspects
        self._replicas = 1
        self._actor: Any = None
        self._mourning: asyncio.Task[None] | None = None

    def share(self) -> float:
        """This replica's part of the tenants' limits."""
        return 1.0 / max(1, self._replicas)

    async def keep(self) -> None:
        """Tell and be told, for ever."""
        while True:
            await self.tell()
            await asyncio.sleep(TELL_S)

    async def tell(self) -> None:
        """Tell and be told. What hinders that is logged and tried again the next time."""
        try:
            if self._actor is None:
                self._actor = await asyncio.to_thread(_actor, self._app)
            told: Mapping[str, Any] = await self._actor.tell.remote(
                self._replica, self._suspects.to_json()
            )
            self._suspects.merge(told["suspects"])
            self._replicas = told["replicas"]
        except Exception as error:  # its node may be gone; another one starts it anew
            self._actor = None
            logger.warning("The replicas' common memory does not answer: %s", error)

    async def mourn(self) -> None:
        """The engine is dead: tell what it computed, and wait until all replicas have heard it.
        May be called by each of these requests; all wait for the same."""
        if self._mourning is None:
            self._mourning = asyncio.ensure_future(self._mourn())
        await asyncio.shield(self._mourning)

    async def _mourn(self) -> None:
        await asyncio.sleep(_ALL_SEE_IT_S)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.tell(), HEARD_S)
            await asyncio.sleep(HEARD_S)
            await asyncio.wait_for(self.tell(), HEARD_S)

    def leave(self) -> None:
        """Say that the replica goes in peace."""
        if self._actor is not None:
            with contextlib.suppress(Exception):
                self._actor.leave.remote(self._replica)


def _actor(app: str) -> Any:
    """The actor of an application; started unless it is there.

    Without CPUs, so that it finds a place anywhere, and detached, so that it outlives the replica
    that came first. Its process is a few dozen megabytes.
    """
    import ray

    kind = ray.remote(Common)
    return kind.options(
        name=f"eksml-serving-{app}",
        namespace=_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
    ).remote()
