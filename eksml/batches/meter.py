"""Tells how far a batch run is: its progress, its metrics, its events."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Any, Self

from eksml.batches.plan import Sizes
from eksml.batches.tally import Tally
from eksml.batches.worker import Told
from eksml.errors import StorageError
from eksml.runs.driver import EVENTS, Attempt
from eksml.runs.journal import Journal, source_name
from eksml.runs.progress import Progress, write_progress
from eksml.runs.receipt import receipt
from eksml.runs.tail import read

EVERY_S = {"file": 1.0, "s3": 3.0}


class Meter:
    """Adds receipts to a tally, and writes down how it stands. One thread adds, another writes."""

    def __init__(self, attempt: Attempt, tally: Tally, sizes: Sizes) -> None:
        self._attempt = attempt
        self._tally = tally
        self._sizes = sizes
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._first_s: float | None = None
        self._last_s = 0.0
        self._told_step = -1
        self.busy: dict[str, dict[str, float]] = {}
        """What each worker last said of its model."""

    def __enter__(self) -> Self:
        import ray

        step = self._tally.rows + self._tally.errors
        nodes = sum(bool(node.get("Alive")) for node in ray.nodes())
        most = self._sizes.workers[1]
        self._attempt.event("incarnation_started", restored_step=step, nodes=nodes, workers=most)
        source = source_name(self._attempt.number, 0, "driver")
        self._journal = Journal(self._attempt.run / "metrics", source)
        self._began_s = time.time()
        self._write("loading the model")
        self._thread = threading.Thread(target=self._loop, name="eksml-meter", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(StorageError):
            self._write("done" if error is None else "stopping")
            self._journal.close()
        step = self._tally.rows + self._tally.errors
        self._attempt.event("ended", step=step)

    def add(self, told: Told) -> None:
        """Count a block that was just done."""
        now_s = time.time()
        with self._lock:
            if self._first_s is None:
                # The first block began when the model was there
                self._first_s = max(self._began_s, now_s - told.done.seconds)
                step = self._tally.rows + self._tally.errors
                self._attempt.event("loop_started", at_s=self._first_s, restored_step=step)
            self._tally.add(told.done, now_s)
            self._last_s = now_s
            self.busy[told.worker] = told.busy

    @property
    def node_hours(self) -> float:
        """Of all attempts up to now."""
        events = [entry.record for entry in read(self._attempt.run / EVENTS)]
        return receipt(events, now_s=time.time()).node_s / 3600

    @property
    def computing_s(self) -> float:
        """Since the first block of this attempt began."""
        return 0.0 if self._first_s is None else self._last_s - self._first_s

    def _loop(self) -> None:
        while not self._ended.wait(EVERY_S[self._attempt.run.scheme]):
            with contextlib.suppress(StorageError):
                self._write("computing" if self._first_s else "loading the model")

    def _write(self, phase: str) -> None:
        now_s = time.time()
        with self._lock:
            tally = self._tally
            step = tally.rows + tally.errors
            rows_per_s, tokens_per_s = tally.speed(now_s, self._first_s or now_s)
            total = tally.total(self._sizes.rows)
            metrics: dict[str, Any] = {"errors": tally.errors}
            if tokens_per_s:
                metrics["tokens_per_s"] = round(tokens_per_s, 1)
        left_s = (total - step) / rows_per_s if rows_per_s else None
        write_progress(
            self._attempt.run,
            Progress(
                step=step,
                total=total,
                unit="row",
                samples_per_s=rows_per_s or None,
                seconds_left=left_s,
                metrics=metrics,
                committed_step=step,
                phase=phase,
            ),
        )
        if step != self._told_step and self._first_s is not None:
            self._told_step = step
            self._journal.append(
                {"step": step, "time_s": now_s, "rows_per_s": round(rows_per_s, 2), **metrics}
            )
            self._attempt.event("committed", step=step, at_s=now_s)
