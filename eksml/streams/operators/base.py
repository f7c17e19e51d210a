"""What a step of a graph is, as data, and what works on its events in a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.errors import Problem
from eksml.streams.operators.room import Held
from eksml.streams.watermarks import Mark

if TYPE_CHECKING:
    import asyncio

    import pyarrow as pa

    from eksml.storage import URI
    from eksml.streams.batch import Batch

MAIN = ""
"""The output that everybody means who names none."""


class Spec:
    """What a user asked a step to do. Frozen; wrong values are told by :meth:`problems`, all of
    them, when the graph is checked, and not raised when it is written down."""

    kind: ClassVar[str]
    """The verb in the user's words, which the step is named by."""
    needs_key: ClassVar[bool] = False
    """It has state by key: its input must come from ``key_by``."""
    keeps_key: ClassVar[bool] = False
    """Events go on under the key that they came with."""
    stateful: ClassVar[bool] = False
    """It has state that a checkpoint holds."""

    def problems(self) -> Iterator[Problem]:
        """What is wrong, by the names of arguments."""
        yield from ()

    def outputs(self) -> tuple[str, ...]:
        """Names of its side outputs; ``("*",)`` if only events tell."""
        return ()

    def make(self, context: Context) -> Operator:
        """The operator for one task."""
        raise NotImplementedError


@dataclass
class Counts:
    """What a step of a task has seen since the task began."""

    events_in: int = 0
    events_out: int = 0
    late: int = 0
    dead: int = 0
    busy_s: float = 0.0
    blocked_s: float = 0.0
    """Waiting for those behind it to take what it has."""


@dataclass
class Context:
    """What an operator is given by its task."""

    step: str
    """The step's name."""
    index: int
    """Number of the task among the ``parallelism`` tasks of its stage."""
    parallelism: int
    keys: tuple[str, ...]
    """Names of the key columns that its input has."""
    run: URI
    emit: Callable[..., Awaitable[None]]
    """``emit(batch, port=MAIN)``: hand events on. Waits while those behind are slow."""
    advance: Callable[[Mark], Awaitable[None]]
    """Hand a watermark on; by operators that hold events back (see :class:`Operator`)."""
    reject: Callable[..., Awaitable[None]]
    """``reject(batch, error, tries)``: poison events, to the dead letters or the end of the run."""
    lock: asyncio.Lock
    """Held by the task while events pass; to be taken by what emits at times of its own."""
    fail: Callable[[BaseException], None]
    """End the run with this error; for work that nobody waits for."""
    tries: int = 3
    """How often a function is tried on an event until that is poison."""
    counts: Counts = field(default_factory=Counts)
    pool: tuple[Any, ...] = ()
    """Actors that hold its model."""
    state_memory: int | None = None
    """Bytes of state that may lie in memory, about; more goes to the local disk."""


class Operator:
    """Works on the events of one step in one task. Called by one coroutine at a time.

    Contract: between :meth:`flush` and :meth:`snapshot` nothing is called, and what was taken
    before is either emitted or in the state.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    async def process(self, batch: Batch, side: int) -> None:
        """Take events from input ``side``."""
        raise NotImplementedError

    async def on_watermark(self, watermark: int) -> None:
        """Event time has come to ``watermark``; what is due is emitted before it is handed on."""

    async def pass_on(self, mark: Mark) -> None:
        """Hand the watermark on. Operators that hold events back hold it back as well."""
        await self.context.advance(mark)

    async def flush(self) -> None:
        """Emit what is only held back for speed; at barriers and at the end."""

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        """State that has changed since the last snapshot, or all of it; with ``__group``.

        Later rows of one key replace earlier ones, in the way that :meth:`restore` knows. Tables
        may be made when another thread asks for them; what comes meanwhile is not in them.
        """
        return ()

    def restore(self, tables: Iterable[pa.Table], watermark: int) -> None:
        """Take back what snapshots gave, in their order, of the groups that this task owns."""

    def size(self) -> int:
        """Rows that a full snapshot would hold, about."""
        return 0

    def held(self) -> Held:
        """Bytes that its state takes."""
        return Held(0)

    async def close(self) -> None:
        """Give up what was opened. Not called when the task is killed."""
