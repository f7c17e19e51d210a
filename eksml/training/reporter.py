"""What the first rank tells and hears while it trains: metrics, progress, events, wishes to stop.

Nothing here waits for storage in the training thread: journals flush in the background, and one
thread writes ``progress.json`` and reads ``control.json`` about once a second.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from eksml.errors import StorageError
from eksml.runs.control import read_stop
from eksml.runs.journal import Journal, source_name
from eksml.runs.progress import Progress, write_progress
from eksml.runs.receipt import Kind, event
from eksml.storage import URI

_TICK_S = {"file": 1.0, "s3": 2.0}
_WINDOW = 10
"""Ticks over which the speed is measured."""


class Reporter:
    """One per worker; only the first rank's writes. Closed by the worker's main function.

    Args:
        restored_step: The step that this incarnation goes on from.
    """

    def __init__(
        self, run: URI, attempt: int, incarnation: int, rank: int, restored_step: int
    ) -> None:
        self.run = run
        self.attempt = attempt
        self.stop: str | None = None
        """Why the run was asked to stop, once it was."""
        self.committed_step = restored_step
        self._silent = rank > 0
        self._step = restored_step
        self._total: int | None = None
        self._samples = 0
        self._marks: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)
        self._phase = "starting"
        self._last: dict[str, Any] = {}
        self._closing = threading.Event()
        if self._silent:
            return
        source = source_name(attempt, incarnation, "rank0")
        self._metrics = Journal(run / "metrics", source)
        self._events = Journal(run / "events", source)
        self._thread = threading.Thread(target=self._tick, name="eksml-reporter", daemon=True)
        self._thread.start()

    def event(self, kind: Kind, **fields: Any) -> None:
        """Add to the run's events."""
        if not self._silent:
            self._events.append(event(kind, self.attempt, **fields))

    def started(self, **fields: Any) -> None:
        """The workers have started. Waits until that is in storage, so that the receipt counts
        those too that are killed before the first flush."""
        self.event("incarnation_started", **fields)
        if not self._silent:
            with contextlib.suppress(StorageError):  # it is tried again in the background
                self._events.flush()

    def loop_started(self, step: int, total: int | None) -> None:
        """The first step is about to begin."""
        self._step, self._total = step, total
        self._marks.append((time.monotonic(), step, 0))
        self._phase = "running"
        self.event("loop_started")

    def stepped(self, step: int, values: Mapping[str, Any], samples: int) -> None:
        """Step number ``step`` is over. Takes microseconds."""
        self._step = step + 1
        self._samples += samples
        if values:
            self._last = dict(values)
            self._metrics.append({"step": step, "time_s": time.time(), **values})

    def committed(self, step: int, at_s: float) -> None:
        """A checkpoint was committed; called from the writer's thread."""
        self.committed_step = step
        self.event("committed", step=step, at_s=at_s)

    def flush(self) -> None:
        """Wait until all metrics so far are in storage: before a checkpoint claims their steps."""
        if not self._silent:
            self._metrics.flush()

    def close(self, phase: str) -> None:
        """Write what there is; storage that fails now loses only what was not yet flushed."""
        self._closing.set()
        if self._silent:
            return
        self._thread.join()
        self._phase = phase
        self.event("ended", step=self._step)
        self._write()
        self._metrics.close()
        self._events.close()

    def _tick(self) -> None:
        while not self._closing.wait(_TICK_S[self.run.scheme]):
            try:
                stop = read_stop(self.run)
                self.stop = stop.stop if stop else None
                self._write()
            except StorageError:
                continue  # the next tick tries again

    def _write(self) -> None:
        steps_per_s, samples_per_s = self._speed()
        left = self._total - self._step if self._total is not None else None
        write_progress(
            self.run,
            Progress(
                step=self._step,
                total=self._total,
                samples_per_s=samples_per_s,
                seconds_left=left / steps_per_s if left is not None and steps_per_s else None,
                metrics={name: _number(value) for name, value in self._last.items()},
                committed_step=self.committed_step,
                phase=self._phase,
            ),
        )

    def _speed(self) -> tuple[float | None, float | None]:
        """Steps and samples a second, over the last few ticks."""
        if not self._marks:
            return None, None
        (began_s, step, samples), now_s = self._marks[0], time.monotonic()
        self._marks.append((now_s, self._step, self._samples))
        if now_s <= began_s or self._step == step:
            return None, None
        seconds = now_s - began_s
        return (self._step - step) / seconds, (self._samples - samples) / seconds


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
