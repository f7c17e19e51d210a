"""Rows that kill the engine they run on: found, and answered with an error instead.

An attempt first counts itself among those that died, and takes that back once it stops in peace or
the blocks are committed that were open when others died. So the next one sees what happened. After
``CAREFUL_AFTER`` deaths over the same blocks their rows are computed one by one, each written down
before it begins; a row that is written down at ``ALONE_AT`` deaths is not tried again. A machine
that is taken away counts as a death too, which is why one is not enough.
"""

from __future__ import annotations

import threading

from pydantic import ValidationError

from eksml.errors import Damaged, NotFound
from eksml.serving.batch_jobs.lines import Row
from eksml.serving.batch_jobs.records import Batch, Record

CAREFUL_AFTER = 2
ALONE_AT = 2


class Deaths(Record):
    """What attempts on a batch leave for the next one."""

    attempts: int = 0
    """That died, or have not told of their end, since the blocks up to ``until`` were opened."""
    until: int = -1
    """The last block that one of them opened."""
    alone: str | None = None
    """The ``custom_id`` of the row that is computed alone."""
    fatal: str | None = None
    """The one that was, when the last attempt died."""
    fatal_at: int = 0
    """Deaths in a row at which it was that one."""
    refused: tuple[str, ...] = ()
    """Rows that are not tried again."""

    def next(self) -> Deaths:
        """As the next attempt begins with it."""
        found = self.changed(attempts=self.attempts + 1, alone=None)
        if self.alone is None:
            return found
        times = self.fatal_at + 1 if self.alone == self.fatal else 1
        refused = (*self.refused, self.alone) if times >= ALONE_AT else self.refused
        return found.changed(fatal=self.alone, fatal_at=times, refused=refused)

    def changed(self, **changes: object) -> Deaths:
        """A copy with some fields changed."""
        return self.model_copy(update=changes)


class Care:
    """How careful one attempt has to be. Blocks while it writes: for threads, any of them."""

    def __init__(self, batch: Batch) -> None:
        self._uri = batch.folder / "deaths.json"
        self._turn = threading.Lock()
        found = self._read()
        self._suspected = found.until if found.attempts else -1
        self._before = found.attempts
        self._deaths = found.next()
        self._change()

    @property
    def refused(self) -> tuple[str, ...]:
        """Rows that must not be computed."""
        return self._deaths.refused

    def in_order(self, rows: list[Row]) -> list[Row]:
        """The rows as they are to be begun: the one that was alone at the last death at the end of
        its block, so that machines that are taken away time and again seldom meet it twice."""
        return sorted(rows, key=lambda row: row.custom_id == self._deaths.fatal)

    def runs_alone(self, block: int) -> bool:
        """Whether the block's rows are computed one by one."""
        return self._before >= CAREFUL_AFTER and block <= self._suspected

    def open(self, block: int) -> None:
        """Before the first row of a block begins; blocks are opened in their order."""
        if block > self._deaths.until:
            self._change(until=block)

    def begin_alone(self, custom_id: str) -> None:
        """Before a row is computed alone."""
        self._change(alone=custom_id)

    def committed(self, first_open: int) -> None:
        """All blocks before ``first_open`` are committed."""
        if self._before and first_open > self._suspected:
            self._before = 0
            self._change(attempts=1, alone=None)

    def stop_in_peace(self) -> None:
        """The attempt ends, and has not died."""
        self._change(attempts=self._before, alone=None)

    def _read(self) -> Deaths:
        try:
            return Deaths.model_validate(self._uri.read_json())
        except NotFound:
            return Deaths()
        except ValidationError as error:
            told = error.errors()[0]["msg"]
            raise Damaged(f"{self._uri} does not tell of deaths: {told}.") from error

    def _change(self, **changes: object) -> None:
        with self._turn:
            self._deaths = self._deaths.changed(**changes)
            self._uri.write_json(self._deaths.model_dump())
