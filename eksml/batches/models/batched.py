"""A function in a worker, called with batches of numpy arrays."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from eksml.batches.blocks import INTERNAL
from eksml.batches.models.arrays import to_numpy
from eksml.batches.models.base import Outcome
from eksml.batches.models.clock import BusyClock
from eksml.batches.models.isolation import Isolated, isolate
from eksml.batches.models.results import Results
from eksml.errors import EksmlError, EngineDied, InvalidSpec, Problem, tell

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Batch = dict[str, "np.ndarray[Any, Any]"]
T = TypeVar("T")
Function = Callable[[Batch], Mapping[str, Any]]


def made(name: str, make: Callable[[], T]) -> tuple[T, float]:
    """What ``make`` gives, and the seconds that it took.

    Raises:
        InvalidSpec: It raised something, which is the cause.
    """
    began = time.perf_counter()
    try:
        return make(), time.perf_counter() - began
    except EksmlError:
        raise
    except Exception as error:
        problem = Problem("model", f"{name} could not be made: {tell(error)}.")
        raise InvalidSpec([problem], name) from error


class LoadedFunction:
    """A function in a worker. See :class:`eksml.batches.models.base.Loaded`.

    Args:
        call: What computes a batch.
        name: How messages call it.
        columns: What it is given; None for all.
        batch_rows: Rows of each call.
        load_s: Seconds that making it took.
        threads: How many of its calls may be under way at once.
    """

    def __init__(
        self,
        call: Function,
        name: str,
        columns: tuple[str, ...] | None,
        batch_rows: int,
        load_s: float,
        threads: int = 1,
    ) -> None:
        self.threads = threads
        self._call: Function | None = call
        self._columns = columns
        self._batch_rows = batch_rows
        self._results = Results(name)
        self._load_s = load_s
        self._clock = BusyClock()

    def compute(self, table: pa.Table) -> Outcome:
        """All rows, batch after batch.

        Raises:
            WrongResult: What it returned is no dictionary of columns with a value for each row.
            EngineDied: The accelerator is in a state that only a new process can leave.
        """
        names = self._columns or [name for name in table.column_names if name not in INTERNAL]
        with self._clock:
            return self._compute(table.select(names))

    def _compute(self, table: pa.Table) -> Outcome:
        parts: Isolated[pa.Table] = Isolated()
        for start in range(0, table.num_rows, self._batch_rows):
            done = self._isolate(table.slice(start, self._batch_rows))
            for first, end, result in done.results:
                made = self._results.table(result, end - first)
                parts.results.append((start + first, start + end, made))
            parts.errors.update({start + row: told for row, told in done.errors.items()})
        columns = self._results.joined(parts, table.num_rows)
        return Outcome(columns, parts.errors)

    def _isolate(self, rows: pa.Table) -> Isolated[Any]:
        return isolate(lambda start, stop: self._try(rows.slice(start, stop - start)), len(rows))

    def _try(self, part: pa.Table) -> Any:
        assert self._call is not None, "compute after close"
        batch = {name: to_numpy(part[name]) for name in part.column_names}
        try:
            return self._call(batch)
        except Exception as error:
            if _lost_accelerator(error):
                told = f"The accelerator of this worker is lost: {tell(error)}."
                raise EngineDied(told) from error
            raise

    def busy(self) -> dict[str, float]:
        """Seconds of loading and of computing."""
        return {"load_s": self._load_s, "busy_s": self._clock.busy_s}

    def close(self) -> None:
        """Let go of the function and what it holds."""
        self._call = None


def _lost_accelerator(error: Exception) -> bool:
    """Whether no later call in this process can succeed, whatever the rows: CUDA's sticky errors.
    Running out of memory is none of them, and smaller batches may well fit."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)
