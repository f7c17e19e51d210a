"""What a sink is, as data, and how a task writes into it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from eksml.errors import Problem
from eksml.storage import URI
from eksml.streams.batch import Batch
from eksml.streams.sources.base import Guarantee


@dataclass(frozen=True)
class Desk:
    """Where a task writes from."""

    step: str
    index: int
    run: URI
    identity: str
    """Tells the run from every other, also from one that had its name and was deleted: targets
    remember under it which epochs they have."""
    attempt: int
    """The run's attempt, for names that no older owner uses."""

    def name_of(self, writer: int) -> str:
        """The name under which targets remember the epochs of a writer of this step."""
        return f"{self.identity}/{self.step}/{writer}"


class Sink:
    """A frozen description; the graph holds it."""

    kind: ClassVar[str]
    sink_guarantee: ClassVar[Guarantee]
    """«exactly-once»: with a source that can be read again, each effect happens once."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong, by the names of arguments."""
        yield from ()

    def replaces(self) -> bool:
        """Whether an event takes the place of an older one with its key."""
        return False

    async def writer(self, desk: Desk) -> Writer:
        """Begin to write, in a task."""
        raise NotImplementedError


class Writer(Protocol):
    """Writes the events of one task, epoch by epoch. Called by one coroutine.

    The order of calls is: ``write`` any number of times, ``prepare(1)``, more of ``write`` for the
    next epoch, ``commit(1)``, … After ``prepare`` the epoch must be able to become visible
    whatever happens to this process; before ``commit`` it must not be. ``commit`` may come again
    with the same token, from another process as well, and then changes nothing.
    """

    async def write(self, batch: Batch) -> None:
        """Take events of the present epoch."""

    async def prepare(self, epoch: int) -> Any:
        """End the epoch; a JSON value from which ``commit`` can be done, None if it is empty."""

    async def commit(self, epoch: int, token: Any) -> None:
        """Make the effects of the epoch happen, once."""

    async def close(self) -> None:
        """Give up what was opened."""
