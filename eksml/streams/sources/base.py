"""What a source is, as data, and how a task reads its part of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from eksml.errors import Problem
from eksml.streams.batch import Batch

Guarantee = Literal["exactly-once", "at-least-once"]


class Read(NamedTuple):
    """Events of one split, in its order."""

    split: str
    batch: Batch
    """With the times that the source has for them; now, where it has none."""


@dataclass(frozen=True)
class Place:
    """Which part of a source a task reads."""

    step: str
    index: int
    parallelism: int
    positions: Mapping[str, Any]
    """What the readers' ``positions`` were in the checkpoint, of all tasks together."""

    def mine(self, splits: Sequence[str]) -> list[str]:
        """This task's share of splits that are all known."""
        return sorted(splits)[self.index :: self.parallelism]


class Source:
    """A frozen description; the graph holds it."""

    kind: ClassVar[str]
    source_guarantee: ClassVar[Guarantee]
    """«exactly-once»: it can be read again from a position, so that effects happen once."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong, by the names of arguments."""
        yield from ()

    async def reader(self, place: Place) -> Reader:
        """Begin to read, in a task."""
        raise NotImplementedError

    def decode(self, batch: Batch) -> Batch:
        """Make events of what was read: as many, in the same order, or an error, after which it is
        asked again for parts. Called in the task, apart from reading, so that what cannot be
        decoded is a poison event and not the end of the source."""
        return batch


class Reader(Protocol):
    """Reads the splits of one task. Called by one coroutine.

    Positions are taken between reads, and mean: everything that :meth:`read` has given, and
    nothing more, lies before them.
    """

    async def read(self, wait_s: float) -> Read | None:
        """The next events; None if none came within ``wait_s``, about.

        Raises:
            EndOfSource: All splits have ended.
        """

    @property
    def splits(self) -> Sequence[str]:
        """Splits that it reads at present."""

    def ended(self) -> Sequence[str]:
        """Splits of them that give nothing any more."""

    def positions(self) -> dict[str, Any]:
        """Where this task's part is read to; JSON values, under names that no other task uses."""

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """A checkpoint with these positions stands: effects of what lies before them are final."""

    async def close(self) -> None:
        """Give up what was opened."""


class EndOfSource(Exception):
    """A reader's splits have all ended."""
