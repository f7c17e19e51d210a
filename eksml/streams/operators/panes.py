"""What lies in the panes of tumbling and sliding windows, in columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from eksml.streams.batch import concat_tables
from eksml.streams.operators.aggregates import GROUP, PANE
from eksml.streams.operators.mapped import mapped
from eksml.streams.operators.piles import Compact, Pile, num_bytes, parts
from eksml.streams.operators.room import Held
from eksml.streams.watermarks import NEVER
from eksml.streams.windows import Sliding, Span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_PARTS = 8
"""In so many parts of the memory what lies on the disk is worked on."""
_LOOK = 16
"""Of so many tables one is asked for its bytes."""


class Panes:
    """Tables by pane, and the windows that become due. ``__pane`` tells where a row belongs.

    ``compact`` makes one row of those that belong together, if they may be put together at all.
    What takes more than ``memory`` bytes goes to the local disk.
    """

    def __init__(
        self,
        window: Sliding,
        compact: Compact | None = None,
        lateness_us: int = 0,
        memory: int | None = None,
    ) -> None:
        self._window = window
        self._compact = compact
        self._lateness_us = lateness_us
        self._memory = memory
        self._part_bytes = None if memory is None else max(1, memory // _PARTS)
        self._piles: dict[int, Pile] = {}
        self._fresh: list[pa.Table] = []
        self._in_memory = 0.0
        """Bytes; too many rather than too few."""
        self._row_bytes = 0.0
        self._turn = 0
        self.closed = NEVER
        """Windows that end until then have been given out."""

    def of(self, times: np.ndarray) -> np.ndarray:
        """The pane of each time."""
        panes: np.ndarray = times - times % self._window.pane_us
        return panes

    def late(self, panes: np.ndarray) -> np.ndarray:
        """Which of them have no window any more that takes events."""
        return self._late(panes, self._expired)

    def _late(self, panes: np.ndarray, expired: int) -> np.ndarray:
        ends = panes - panes % self._window.slide_us + self._window.size_us
        late: np.ndarray = ends <= expired
        return late

    @property
    def _expired(self) -> int:
        """Windows that end until then take no events any more."""
        return max(NEVER, self.closed - self._lateness_us)

    def add(self, table: pa.Table) -> None:
        """Put rows into their panes."""
        self._fresh.append(table)
        self._put(table)

    def _put(self, table: pa.Table) -> None:
        import numpy as np
        import pyarrow.compute as pc

        column = table.column(PANE)
        panes = np.unique(column.to_numpy()).tolist()
        for pane in panes:
            part = table if len(panes) == 1 else table.filter(pc.equal(column, pane))
            if pane not in self._piles:
                self._piles[pane] = Pile(self._compact, self._part_bytes)
            self._piles[pane].add(part)
        self._settle(table)

    def _settle(self, table: pa.Table) -> None:
        """After ``table`` has come: move what has no room to the disk.

        Raises:
            StorageUnavailable: The disk is full.
        """
        if self._memory is None:
            return
        if not self._turn % _LOOK:
            self._row_bytes = table.nbytes / table.num_rows
        self._turn += 1
        # In its panes, and as what is fresh
        self._in_memory += 2 * self._row_bytes * table.num_rows
        if self._in_memory <= self._memory:
            return
        self._in_memory = self.held().memory
        if 2 * self._in_memory > self._memory:
            self._move()

    def _move(self) -> None:
        """Move everything to the disk."""
        found = {pane: pile.take() for pane, pile in self._piles.items() if pile.memory}
        for pane, table in zip(found, _moved(list(found.values())), strict=True):
            self._piles[pane].lay(table)
        if self._fresh:
            fresh = concat_tables(self._fresh)
            self._fresh = _moved([self._compact(fresh) if self._compact else fresh])
        self._in_memory = 0.0

    def due(self, watermark: int) -> Iterable[tuple[Span, pa.Table]]:
        """Windows that have ended since the last call, with all their rows, oldest first: in parts,
        each with all that there is of its keys."""
        window = self._window
        crossed = (watermark - window.size_us) // window.slide_us > (
            self.closed - window.size_us
        ) // window.slide_us
        if not crossed:
            self.closed = max(self.closed, watermark)
            return []
        spans = window.due(self._piles, self.closed, watermark)
        found = [(span, concat_tables(self._within(span))) for span in spans]
        self.closed = max(self.closed, watermark)
        for pane in [each for each in self._piles if window.last_end(each) <= self._expired]:
            del self._piles[pane]
        return ((span, part) for span, rows in found for part in parts(rows, self._part_bytes))

    def given_out(self, panes: Iterable[int]) -> list[tuple[Span, pa.Table]]:
        """Windows with one of these panes that were given out and still take events, with all
        their rows, oldest first."""
        spans = self._window.due(panes, self._expired, self.closed)
        return [(span, concat_tables(self._within(span))) for span in spans]

    def _within(self, span: Span) -> list[pa.Table]:
        panes = range(span.start, span.end, self._window.pane_us)
        piles = [self._piles[pane] for pane in panes if pane in self._piles]
        return [table for pile in piles for table in pile.tables]

    def snapshot(self, full: bool) -> Iterable[pa.Table]:
        """Rows that came since the last snapshot, or all, whose windows are still open; made when
        they are asked for."""
        fresh, self._fresh = self._fresh, []
        if full:
            fresh = [table for pile in self._piles.values() for table in pile.tables]
        return self._open(concat_tables(fresh), self._expired) if fresh else ()

    def _open(self, table: pa.Table, expired: int) -> Iterator[pa.Table]:
        for part in parts(table, self._part_bytes):
            rows = part.filter(~self._late(part.column(PANE).to_numpy(), expired))
            if rows.num_rows:
                yield self._compact(rows) if self._compact else rows

    def restore(self, tables: Iterable[pa.Table], closed: int) -> None:
        """Take back what snapshots gave."""
        self.closed = closed
        for table in tables:
            kept = table.filter(~self.late(table.column(PANE).to_numpy()))
            if kept.num_rows:
                self._put(kept)

    @property
    def num_rows(self) -> int:
        return sum(pile.num_rows for pile in self._piles.values())

    def held(self) -> Held:
        """Bytes that it takes."""
        piles = self._piles.values()
        in_memory = sum(pile.memory for pile in piles) + num_bytes(self._fresh)
        return Held(in_memory, sum(pile.disk for pile in piles))


def _moved(tables: list[pa.Table]) -> list[pa.Table]:
    """The same tables on the disk, in one file, each in the order of groups: by parts of groups it
    is read again."""
    if not tables:
        return []
    schema = concat_tables([table.slice(0, 0) for table in tables]).schema
    counts = [table.num_rows for table in tables]

    def ordered() -> Iterator[pa.Table]:
        while tables:
            yield concat_tables([schema.empty_table(), tables.pop(0)]).sort_by(GROUP)

    whole = mapped(ordered(), schema)
    ends = itertools.accumulate(counts)
    return [whole.slice(end - count, count) for end, count in zip(ends, counts, strict=True)]
