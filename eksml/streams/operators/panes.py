"""What lies in the panes of tumbling and sliding windows, in columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from eksml.streams.batch import concat_tables
from eksml.streams.operators.aggregates import PANE
from eksml.streams.watermarks import NEVER
from eksml.streams.windows import Sliding, Span

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Compact = Callable[["pa.Table"], "pa.Table"]

_GROWTH = 2
_SMALL_ROWS = 1 << 16


class Pile:
    """Tables that are put together once they have grown enough: a row is copied a few times."""

    def __init__(self, compact: Compact | None) -> None:
        self._compact = compact
        self._tables: list[pa.Table] = []
        self._settled = 0
        self.num_rows = 0

    def add(self, table: pa.Table) -> None:
        """Put a table on it."""
        self._tables.append(table)
        self.num_rows += table.num_rows
        grown = self.num_rows - self._settled > max(_SMALL_ROWS, _GROWTH * self._settled)
        if self._compact is not None and grown:
            whole = self._compact(concat_tables(self._tables))
            self._tables = [whole]
            self._settled = self.num_rows = whole.num_rows

    @property
    def tables(self) -> list[pa.Table]:
        """What lies on it, oldest first."""
        return self._tables


class Panes:
    """Tables by pane, and the windows that become due. ``__pane`` tells where a row belongs.

    ``compact`` makes one row of those that belong together, if they may be put together at all.
    """

    def __init__(
        self, window: Sliding, compact: Compact | None = None, lateness_us: int = 0
    ) -> None:
        self._window = window
        self._compact = compact
        self._lateness_us = lateness_us
        self._piles: dict[int, Pile] = {}
        self._fresh: list[pa.Table] = []
        self.closed = NEVER
        """Windows that end until then have been given out."""

    def of(self, times: np.ndarray) -> np.ndarray:
        """The pane of each time."""
        panes: np.ndarray = times - times % self._window.pane_us
        return panes

    def late(self, panes: np.ndarray) -> np.ndarray:
        """Which of them have no window any more that takes events."""
        ends = panes - panes % self._window.slide_us + self._window.size_us
        late: np.ndarray = ends <= self._expired
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
            self._piles.setdefault(pane, Pile(self._compact)).add(part)

    def due(self, watermark: int) -> list[tuple[Span, pa.Table]]:
        """Windows that have ended since the last call, with all their rows, oldest first."""
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
        return found

    def given_out(self, panes: Iterable[int]) -> list[tuple[Span, pa.Table]]:
        """Windows with one of these panes that were given out and still take events, with all
        their rows, oldest first."""
        spans = self._window.due(panes, self._expired, self.closed)
        return [(span, concat_tables(self._within(span))) for span in spans]

    def _within(self, span: Span) -> list[pa.Table]:
        panes = range(span.start, span.end, self._window.pane_us)
        piles = [self._piles[pane] for pane in panes if pane in self._piles]
        return [table for pile in piles for table in pile.tables]

    def snapshot(self, full: bool) -> pa.Table | None:
        """Rows that came since the last snapshot, or all, whose windows are still open."""
        fresh, self._fresh = self._fresh, []
        if full:
            fresh = [table for pile in self._piles.values() for table in pile.tables]
        if not fresh:
            return None
        table = concat_tables(fresh)
        table = table.filter(~self.late(table.column(PANE).to_numpy()))
        return self._compact(table) if self._compact and table.num_rows else table

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
