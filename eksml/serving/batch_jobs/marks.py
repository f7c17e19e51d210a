"""The marks of open batches: what workers look for work in, and autoscaling for a need of them."""

from __future__ import annotations

import logging

from eksml.errors import Damaged
from eksml.serving.batch_jobs.places import open_batches
from eksml.serving.batch_jobs.records import Mark, read_mark
from eksml.storage import URI

_log = logging.getLogger(__name__)


class Marks:
    """What the last ``look`` has found. A mark never changes, so each is read once.

    Args:
        root: Where files and batches lie.
    """

    def __init__(self, root: URI) -> None:
        self.open: dict[str, Mark] = {}
        """By batch; names sort by age."""
        self.ages_s: dict[str, float] = {}
        """By batch, of those too whose mark cannot be read."""
        self._folder = open_batches(root)

    def look(self) -> None:
        """See which batches are open now. Blocks: for threads, one at a time.

        Raises:
            StorageError: The storage does not answer; what was known stays.
        """
        stats = self._folder.list()
        ages_s = {stat.uri.name.removesuffix(".json"): stat.age_s for stat in stats}
        marks = {name: self.open.get(name) or self._read(name) for name in ages_s}
        self.open = {name: mark for name, mark in marks.items() if mark is not None}
        self.ages_s = ages_s

    def uri(self, batch: str) -> URI:
        """Where a batch's mark is."""
        return self._folder / f"{batch}.json"

    def _read(self, name: str) -> Mark | None:
        try:
            return read_mark(self.uri(name))
        except Damaged as error:
            _log.warning("a batch cannot be worked on: %s", error)
            return None
