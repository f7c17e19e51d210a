"""Whether batches are open for a model, as who scales its replicas needs to know."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from eksml.errors import EksmlError
from eksml.serving.batch_jobs.marks import Marks
from eksml.storage import URI

LOOK_S = 5.0
"""Seconds between looks into storage."""

_log = logging.getLogger(__name__)


class Waiting:
    """Looks into storage in a thread of its own, while it is asked and no longer.

    Args:
        root: Where files and batches lie.
        models: What a batch's lines may say in ``model`` to be for these replicas.
        clock: Seconds.
    """

    def __init__(
        self, root: str, models: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._marks = Marks(URI.parse(root))
        self._models = frozenset(models)
        self._clock = clock
        self._looked_s = float("-inf")
        self._any = False
        self._thread: threading.Thread | None = None

    def any(self) -> bool:
        """Whether a batch was open at the last look. Never blocks; asked often, by one thread."""
        looks = self._thread is not None and self._thread.is_alive()
        if not looks and self._clock() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock()
            self._thread = threading.Thread(target=self._look, name="open batches", daemon=True)
            self._thread.start()
        return self._any

    def _look(self) -> None:
        try:
            self._marks.look()
        except EksmlError as error:
            _log.warning("open batches cannot be looked for, so later again: %s", error)
        else:
            self._any = any(mark.model in self._models for mark in self._marks.open.values())
