"""Try a user's function again, and set apart the events that it cannot bear."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eksml.streams.batch import Batch
from eksml.streams.operators.base import Context


class Trying:
    """Calls functions; an event that fails ``context.tries`` times in a row is rejected."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def rows(self, batch: Batch, function: Callable[[Any], Any]) -> tuple[Batch, list[Any]]:
        """``function`` of each event: the events that it bore, and its values for them."""
        results: list[Any] = []
        failed: Exception | None = None
        try:
            results.extend(map(function, batch.rows))  # keeps what came before an error
        except Exception as error:
            failed = error
        if failed is None:
            return batch, results
        # Not inside the handler, where each later error would be told with this one as its context
        return await self._from(len(results), failed, results, batch, function)

    async def _from(
        self,
        index: int,
        error: Exception | None,
        results: list[Any],
        batch: Batch,
        function: Callable[[Any], Any],
    ) -> tuple[Batch, list[Any]]:
        """Go on at event ``index``, which has just failed once."""
        import numpy as np

        kept = np.ones(len(batch), np.bool_)
        for position in range(index, len(batch)):
            event = batch.rows[position]
            tries = self._context.tries - (position == index)
            found, value = _again(function, event, tries, error if position == index else None)
            if found is None:
                results.append(value)
            else:
                kept[position] = False
                await self._context.reject(batch.take(np.array([position])), found)
        return batch.filter(kept), results

    async def once(self, batch: Batch, function: Callable[[Any], Any]) -> tuple[Batch, list[Any]]:
        """Like :meth:`rows` for functions that change state: an event is tried once, in order."""
        import numpy as np

        results: list[Any] = []
        failed: list[int] = []
        for index, event in enumerate(batch.rows):
            try:
                results.append(function(event))
            except Exception as error:
                failed.append(index)
                await self._context.reject(batch.take(np.array([index])), error, 1)
        if not failed:
            return batch, results
        kept = np.ones(len(batch), np.bool_)
        kept[failed] = False
        return batch.filter(kept), results

    async def columns(self, batch: Batch, function: Callable[[Batch], Batch]) -> list[Batch]:
        """``function`` of the batch; where it fails, of halves, down to the events to blame."""
        import numpy as np

        error, value = _again(function, batch, self._context.tries)
        if error is None:
            return [value]
        if len(batch) == 1:
            await self._context.reject(batch, error)
            return []
        middle = len(batch) // 2
        halves = np.arange(middle), np.arange(middle, len(batch))
        done = [await self.columns(batch.take(half), function) for half in halves]
        return done[0] + done[1]


def _again(
    function: Callable[[Any], Any], value: Any, tries: int, error: Exception | None = None
) -> tuple[Exception | None, Any]:
    """The last error of ``tries`` calls, or None and what the first good one gave."""
    for _ in range(tries):
        try:
            return None, function(value)
        except Exception as failed:
            error = failed
    return error, None
