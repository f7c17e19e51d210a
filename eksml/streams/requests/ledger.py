"""What is known of each request: attempts, what they saved, and how it ended. In storage.

::

    requests/<id>/attempt-000001.json    written with if-absent: one worker gets each number
    requests/<id>/saved-000001.json      what attempt 1 saved on its way
    requests/<id>/ended-000001.json      attempt 1 ended without a result, and its worker lives
    requests/<id>/result.json            written with if-absent: the one effect
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from eksml.errors import AlreadyExists, Fenced, NotFound
from eksml.storage import URI

REQUESTS = "requests"


class Job:
    """One attempt at a request; a handler that takes two arguments gets it as the second.

    Long work saves where it is, so that the next attempt goes on from there:

    >>> def handle(event, job):                                        # doctest: +SKIP
    ...     for page in range(job.saved or 0, pages(event)):
    ...         read(page)
    ...         job.save(page + 1)
    """

    def __init__(self, folder: URI, id: str) -> None:
        self.id = id
        """Of the request; the same in every attempt."""
        self.attempt = 0
        """Number of this attempt; a fencing token: later ones are greater."""
        self.saved: Any = None
        """What an earlier attempt saved last; None if nothing."""
        self.vanished = 0
        """Earlier attempts of which nothing was heard again: their workers died, most likely."""
        self._folder = folder / id

    def begin(self) -> Job:
        """Take the next attempt number, and what was saved.

        Raises:
            AlreadyExists: The request has its result.
        """
        while True:
            names = [stat.uri.name for stat in self._folder.list()]
            if "result.json" in names:
                raise AlreadyExists(f"{self._folder} has its result.")
            attempts = _numbers("attempt", names)
            self.attempt = max(attempts, default=0) + 1
            self.vanished = len(attempts) - len(_numbers("ended", names))
            try:
                claim = {"began_s": time.time()}
                self._file("attempt", self.attempt).write_json(claim, if_absent=True)
                break
            except AlreadyExists:
                continue
        if saved := _numbers("saved", names):
            self.saved = self._file("saved", max(saved)).read_json()
        return self

    def save(self, value: Any) -> None:
        """Keep a JSON value for the next attempt, should this one die.

        Raises:
            Fenced: A later attempt has begun; this one has to stop.
        """
        self.check_fenced()
        self._file("saved", self.attempt).write_json(value)

    def check_fenced(self) -> None:
        """Ask before an effect that must not come from an old attempt.

        Raises:
            Fenced: A later attempt has begun.
        """
        names = [stat.uri.name for stat in self._folder.list()]
        newest = max(_numbers("attempt", names), default=0)
        if newest > self.attempt:
            raise Fenced(f"attempt {newest} at {self.id} took over from attempt {self.attempt}.")

    def end(self) -> None:
        """Say that this attempt is over, without a result, and not because its worker died."""
        self._file("ended", self.attempt).write_json({"ended_s": time.time()})

    def finish(self, outcome: dict[str, Any]) -> bool:
        """Make the outcome the request's one result; whether it was this one's to make."""
        try:
            told = {"attempt": self.attempt, "ended_s": time.time(), **outcome}
            (self._folder / "result.json").write_json(told, if_absent=True)
        except AlreadyExists:
            return False
        return True

    def _file(self, kind: str, number: int) -> URI:
        return self._folder / f"{kind}-{number:06d}.json"


def result_of(folder: URI, id: str) -> dict[str, Any] | None:
    """How a request ended: ``event`` and either ``result`` or ``error``; None if it has not."""
    try:
        found: dict[str, Any] = (folder / id / "result.json").read_json()
    except NotFound:
        return None
    return found


def _numbers(kind: str, names: Iterable[str]) -> list[int]:
    """Of the files of that kind."""
    found = (name.removesuffix(".json").rpartition("-") for name in names)
    return [int(number) for prefix, _, number in found if prefix == kind]
