"""Requests that may have killed an engine: remembered by their digest, refused after the second.

All that are under way when an engine dies are suspected, and one of them may be guilty. A suspect
that comes again is let in, but no two at once (see ``Visit``), so that a second death tells which
it was; one that ends well is cleared. What is remembered can be put down as JSON and merged with
what others remember, in any order and as often as one likes: a request that is tried on another
replica meets an engine that doesn't know it yet.
"""

from __future__ import annotations

import hashlib
import math
import re
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from eksml.errors import Damaged

MOST_VICTIMS = 2
FORGET_S = 3600.0
"""Seconds after which a suspicion lapses: engines die of other things as well."""
MOST_REMEMBERED = 10_000

_DIGEST = re.compile(r"[0-9a-f]{64}")

Victims = dict[str, dict[str, float]]
"""Digest → engine that died while it ran → when."""


def digest_of(path: str, body: bytes) -> str:
    """What a request is remembered by; nothing of it can be read from that."""
    return hashlib.sha256(path.encode() + b"\n" + body).hexdigest()


class Suspects:
    """What is known of requests, by digest.

    Args:
        clock: Seconds since the epoch, as the JSON form is read by others.
        engine: A name that no other engine ever has; None: a new one.
    """

    def __init__(self, clock: Callable[[], float], engine: str | None = None) -> None:
        self._clock = clock
        self._engine = engine or uuid.uuid4().hex
        self._running: Counter[str] = Counter()
        self._victims: Victims = {}

    def begin(self, digest: str) -> None:
        """The engine is given the request."""
        self._running[digest] += 1

    def end(self, digest: str, *, well: bool, died: bool) -> None:
        """It is over.

        Args:
            digest: The request's.
            well: With an answer, which clears it.
            died: The engine is dead, which makes it a suspect.
        """
        self._running[digest] -= 1
        if self._running[digest] <= 0:
            del self._running[digest]
        if well:
            self._victims.pop(digest, None)
        elif died:
            self._suspect(digest, self._engine, self._clock())

    def suspected(self, digest: str) -> bool:
        """Whether an engine died of late while it ran."""
        return self.num_victims(digest) > 0

    def refused(self, digest: str) -> bool:
        """Whether it must not run again."""
        return self.num_victims(digest) >= MOST_VICTIMS

    def num_victims(self, digest: str) -> int:
        """Engines that died of late while it ran."""
        victims = self._victims.get(digest)
        if victims is None:
            return 0
        if self._clock() - max(victims.values()) > FORGET_S:
            del self._victims[digest]
            return 0
        return len(victims)

    def to_json(self) -> dict[str, Any]:
        """What is remembered, and what runs: who finds it after this replica was killed itself
        reads it with ``died=True``."""
        return {"engine": self._engine, "victims": self._victims, "running": list(self._running)}

    def merge(self, told: Any, *, died: bool = False) -> None:
        """Take over what another has put down.

        Args:
            told: Its JSON.
            died: The other is dead: what it ran is suspected.

        Raises:
            Damaged: It was not put down by ``to_json``; nothing was taken.
        """
        engine, victims, running = _checked(told)
        for digest, engines in victims.items():
            for name, when_s in engines.items():
                self._suspect(digest, name, when_s)
        for digest in running if died else ():
            self._suspect(digest, engine, self._clock())

    def _suspect(self, digest: str, engine: str, when_s: float) -> None:
        victims = self._victims.pop(digest, {})
        victims.setdefault(engine, when_s)
        self._victims[digest] = victims  # the newest last
        while len(self._victims) > MOST_REMEMBERED:
            del self._victims[next(iter(self._victims))]


def _checked(told: Any) -> tuple[str, Victims, list[str]]:
    fields: dict[str, Any] = told if isinstance(told, dict) else {}
    engine, victims, running = fields.get("engine"), fields.get("victims"), fields.get("running")
    wrong = Damaged("The list of suspects is not one that eksml wrote. Delete it.")
    if not isinstance(engine, str) or not isinstance(victims, dict):
        raise wrong
    if not isinstance(running, list) or not all(map(_is_digest, [*victims, *running])):
        raise wrong
    for digest, engines in victims.items():
        if not isinstance(engines, dict) or not engines or not all(map(_is_time, engines.values())):
            raise Damaged(f"The list of suspects is wrong at {digest}. Delete it.")
    return engine, victims, running


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    right = isinstance(value, int | float) and not isinstance(value, bool)
    return right and 0 <= value < math.inf
