"""The handle on a run. Holds only its place, so it works from any process and machine."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from eksml.errors import (
    ClusterError,
    NotFound,
    RunCancelled,
    RunError,
    RunFailed,
    RunInterrupted,
    StorageUnavailable,
)
from eksml.runs import reasons
from eksml.runs.control import request_stop
from eksml.runs.display import Display, View, display_for
from eksml.runs.progress import read_progress
from eksml.runs.receipt import Receipt, receipt
from eksml.runs.record import ENDED, RunRecord, State, read_record, write_record
from eksml.runs.standing import state_of
from eksml.runs.submit import job_log, stop_job
from eksml.runs.tail import Tail, metric_rows, read, text_lines
from eksml.storage import URI, committed, read_part

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

POLL_S = {"file": 0.3, "s3": 2.0}
MAX_OUTAGES = 10
"""Polls in a row that may fail, each after the storage's own retries, before waiting gives up."""


@dataclass(frozen=True)
class Run:
    """A run: what a verb returns, and what ``eksml.get_run(name)`` finds again.

    >>> run = eksml.get_run("digits")             # doctest: +SKIP
    >>> run.wait().metrics().tail()               # doctest: +SKIP
    >>> print(run.why())                          # doctest: +SKIP

    Everything is read from the run's folder when it is asked for. A ``Run`` may be pickled.
    """

    uri: URI
    """The run's folder."""

    @property
    def name(self) -> str:
        """Its name, unique in its storage."""
        return self.uri.name

    @property
    def record(self) -> RunRecord:
        """The record as its owner last wrote it; :attr:`state` also sees a dead owner.

        Raises:
            RunNotFound: The folder holds no run.
        """
        return read_record(self.uri)

    @property
    def state(self) -> State:
        """``pending``, ``running``, ``succeeded``, ``failed``, ``cancelled`` or ``interrupted``."""
        return state_of(self.uri)

    def wait(self, timeout_s: float | None = None, progress: bool = True) -> Run:
        """Follow the run to its end, showing progress on the terminal or in the notebook.

        Ctrl-C ends the waiting, not the run.

        Returns:
            This run, which has succeeded.

        Raises:
            RunFailed: It failed; the message begins with the traceback of the user's own code.
            RunCancelled: It was cancelled or stopped by its deadline or budget.
            RunInterrupted: Its driver is gone.
            TimeoutError: It had not ended after ``timeout_s``; it goes on.
        """
        with display_for(self.name, progress) as display:
            state = self._follow(display, timeout_s)
        if state != "succeeded":
            self._raise_end(state)
        return self

    def logs(self, follow: bool = False) -> Iterator[str]:
        """Lines that the run's workers printed, in order of time; with ``follow`` until it ends.

        >>> for line in run.logs(): print(line)     # doctest: +SKIP
        """
        tail = Tail(self.uri / "logs")
        shown = False
        while True:
            ended = not follow or self.state in ENDED  # asked first: then the last read is complete
            for line in text_lines(tail.new()):
                shown = True
                yield line
            if ended:
                break
            time.sleep(POLL_S[self.uri.scheme])
        if not shown:
            yield from job_log(self.record).splitlines()

    def metrics(self) -> pd.DataFrame:
        """What was logged: a row a step, ``step`` the index, values exactly as they were."""
        import pandas as pd

        rows = metric_rows(read(self.uri / "metrics"))
        if not rows:
            return pd.DataFrame(index=pd.Index([], name="step", dtype="int64"))
        return pd.DataFrame.from_records(rows).set_index("step")

    def result(self) -> Any:
        """The value that the run returned.

        Raises:
            RunFailed, RunCancelled, RunInterrupted: It ended without one.
            RunError: It has not ended; ``wait()`` first.
        """
        import json

        state = self.state
        if state not in ENDED:
            raise RunError(f"The run {self.name} is {state}; it has no result yet. Use run.wait().")
        if state != "succeeded":
            self._raise_end(state)
        try:
            return json.loads(bytes(read_part(self.uri / "result", "result.json")))
        except NotFound:
            return None

    def cancel(self, wait: bool = True, grace_s: float = 30.0) -> Run:
        """Stop the run at its next checkpoint. From any machine; harmless if it has ended.

        Args:
            wait: Return only once it has ended.
            grace_s: After so many seconds the job is terminated where it runs on a cluster.

        Raises:
            RunError: It has not stopped after the grace, and is not a job that can be terminated.
        """
        state = self.state
        if state in ("succeeded", "failed", "cancelled"):
            return self
        if state == "interrupted":
            return self._mark_cancelled()
        request_stop(self.uri, "cancel")
        if state == "pending":
            return self._cancel_pending()
        if wait:
            self._await_end(grace_s)
        return self

    def why(self) -> str:
        """One sentence: what it waits for, how far it is, or why it ended and what to do."""
        return reasons.why(self.uri)

    def receipt(self) -> Receipt:
        """Wall time, the share of it that made kept progress, node time, restarts."""
        events = [entry.record for entry in read(self.uri / "events")]
        return receipt(events, now_s=None if self.state in ENDED else time.time())

    def plan(self) -> dict[str, Any]:
        """How the run was cut and sized before it began; empty for what has no plan (training)."""
        try:
            value: dict[str, Any] = (self.uri / "plan.json").read_json()
        except NotFound:
            return {}
        return value

    def errors(self) -> pd.DataFrame:
        """Rows of a batch that failed when they were tried last: ``_file``, ``_place``, ``_error``
        and what they held."""
        import io

        import pandas as pd

        # <block>-<generation>.parquet: of a block, the newest counts
        newest = {s.uri.name.partition("-")[0]: s.uri for s in (self.uri / "errors").list()}
        found = [pd.read_parquet(io.BytesIO(uri.read_bytes())) for uri in newest.values()]
        columns = ["_file", "_place", "_error"]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=columns)

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """The losses over the steps, as a matplotlib figure; also saved if ``path`` is given.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        from eksml.runs.plot import losses

        return losses(self.name, self.metrics(), path)

    def checkpoints(self) -> list[tuple[int, URI]]:
        """Committed checkpoints, ``(step, folder)``, oldest first."""
        folders = committed(self.uri / "checkpoints")
        return sorted((_step(folder.name), folder) for folder in folders)

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, {str(self.uri)!r})"

    def _repr_html_(self) -> str:
        from eksml.runs.notebook import run_html

        return run_html(self._view(), metric_rows(read(self.uri / "metrics")))

    def _view(self) -> View:
        record = self.record
        return View(record, state_of(self.uri, record), read_progress(self.uri))

    def _follow(self, display: Display, timeout_s: float | None) -> State:
        limit = None if timeout_s is None else time.monotonic() + timeout_s
        outages = 0
        while True:
            try:
                view = self._view()
                outages = 0
            except StorageUnavailable:
                outages += 1
                if outages > MAX_OUTAGES:
                    raise
            else:
                display.show(view)
                if view.state in ENDED:
                    return view.state
            if limit is not None and time.monotonic() > limit:
                raise TimeoutError(f"The run {self.name} has not ended after {timeout_s} s.")
            time.sleep(POLL_S[self.uri.scheme])

    def _raise_end(self, state: State) -> NoReturn:
        kinds = {"failed": RunFailed, "cancelled": RunCancelled, "interrupted": RunInterrupted}
        raise kinds[state](reasons.ending(self.uri, state))

    def _cancel_pending(self) -> Run:
        record = self.record
        try:
            stop_job(record)
        except ClusterError:
            if self.state == "pending" and record.job_id:
                raise
        return self if self.state in ENDED - {"interrupted"} else self._mark_cancelled()

    def _mark_cancelled(self) -> Run:
        record = self.record
        write_record(
            self.uri,
            record.with_changes(state="cancelled", ended_s=time.time(), stop="cancel"),
        )
        return self

    def _await_end(self, grace_s: float) -> None:
        limit = time.monotonic() + grace_s
        while self.state not in ENDED:
            if time.monotonic() > limit:
                self._terminate(grace_s)
                return
            time.sleep(POLL_S[self.uri.scheme])
        if self.state == "interrupted":
            self._mark_cancelled()

    def _terminate(self, grace_s: float) -> None:
        record = self.record
        if record.job_id is None:
            raise RunError(
                f"The run {self.name} was asked to stop and has not reached a checkpoint after "
                f"{grace_s} s. It will stop at the next one; {self.why()}"
            )
        stop_job(record)
        if self.state not in ENDED - {"interrupted"}:
            self._mark_cancelled()


def _step(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else 0
