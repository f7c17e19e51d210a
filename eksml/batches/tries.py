"""Which rows take their worker down? Each try of a block is noted before it begins.

A worker that dies leaves notes of all blocks that it had under way, most of them innocent. So a
block with some tries behind it is computed alone in its worker, and only tries alone count
against it. Notes of other attempts do not count: their workers may have died with their driver.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from eksml.batches.ledger import Key
from eksml.storage import URI
from eksml.storage.patience import patiently

TRIES = "tries"
TRUSTED = 2
"""Tries beside other blocks, before a block is computed alone."""


class Tries:
    """The notes of one attempt, and the turns of the blocks in one worker."""

    def __init__(self, run: URI, attempt: int) -> None:
        self._run = run
        self._prefix = f"a{attempt:06d}"
        self._turn = _Turn()

    def alone(self, key: Key) -> int | None:
        """How often the block was tried alone; None while it is trusted beside others."""
        names = [stat.uri.name for stat in patiently(lambda: list(self._folder(key).list()))]
        mine = [name for name in names if name.startswith(self._prefix)]
        if len(mine) < TRUSTED:
            return None
        return sum("-alone-" in name for name in mine)

    @contextmanager
    def turn(self, key: Key, *, alone: bool) -> Iterator[None]:
        """Wait for the block's turn in this worker and note the try."""
        with self._turn.take(alone=alone):
            how = "alone" if alone else "beside"
            note = self._folder(key) / f"{self._prefix}-{how}-{secrets.token_hex(6)}"
            patiently(lambda: note.write_bytes(b""))
            yield

    def _folder(self, key: Key) -> URI:
        return self._run / TRIES / str(key)


class _Turn:
    """Many at a time, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not (alone and self._inside))
            self._alone = alone
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._alone = False
                self._changed.notify_all()
