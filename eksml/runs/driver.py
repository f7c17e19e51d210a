"""The driving side of a run: begin it, own an attempt of it, end it in a recorded state."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from eksml.errors import (
    AlreadyExists,
    CallError,
    Fenced,
    RunCancelled,
    RunError,
    RunNameInUse,
    RunNotFound,
    StorageError,
)
from eksml.runs import lease
from eksml.runs.control import Stop, clear_stop, read_stop, request_stop
from eksml.runs.credentials import check_config
from eksml.runs.journal import Journal, source_name
from eksml.runs.receipt import Kind, event, receipt
from eksml.runs.record import (
    ENDED,
    ErrorRecord,
    RunRecord,
    State,
    Versions,
    check_name,
    json_view,
    read_record,
    write_record,
)
from eksml.runs.standing import state_of
from eksml.runs.tail import Tail
from eksml.storage import URI, commit_files

RESULT = "result"
EVENTS = "events"


def new_name(verb: str) -> str:
    """A name for a run that was given none; later names sort last.

    >>> new_name("train")   # doctest: +SKIP
    'train-20260301-142501-9f3a'
    """
    return f"{verb}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def create(
    storage: URI,
    name: str | None = None,
    *,
    verb: str,
    entry: str,
    config: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    cluster: str | None = None,
    deadline_s: float | None = None,
    budget_node_hours: float | None = None,
    again: bool = False,
) -> URI:
    """Write the record of a new run, or take an ended one of that name up again.

    A run that failed, was cancelled or interrupted goes on as a new attempt from its last
    checkpoint; with ``again``, so does one that succeeded. The new call's configuration, job and
    limits replace the old ones.

    Returns:
        The run's folder, its record ``pending``.

    Raises:
        InvalidSpec: The name cannot be a run's.
        CallError: There are AWS credentials in the configuration.
        RunNameInUse: A run of that name is going on, or has succeeded.
    """
    name = name or new_name(verb)
    check_name(name)
    check_config(config, "config")
    run = storage / name
    record = RunRecord(
        name=name,
        verb=verb,
        entry=entry,
        cluster=cluster,
        versions=Versions.here(),
        config=json_view(config or {}),
        spec=dict(spec or {}),
        deadline_s=deadline_s,
        budget_node_hours=budget_node_hours,
    )
    try:
        write_record(run, record, if_absent=True)
        lease.write_lease(run, lease.Owner.here(0, preparing=True))
    except AlreadyExists:
        _take_up(run, record, again)
    return run


def check_free(run: URI, again: bool = False) -> None:
    """Ask whether :func:`create` may use this folder; it asks again itself.

    Raises:
        RunNameInUse: A run of that name is going on, or has succeeded (fine with ``again``).
    """
    try:
        state = state_of(run)
    except RunNotFound:
        return
    if state == "succeeded" and not again:
        raise RunNameInUse(
            f"{run} has succeeded already. Choose another name, or delete the folder to start over."
        )
    if state not in ENDED:
        raise RunNameInUse(
            f"{run} is {state}. Wait for it with eksml.get_run({run.name!r}), cancel it, "
            "or choose another name."
        )


def _take_up(run: URI, wanted: RunRecord, again: bool) -> None:
    """Make an ended run pending again, as ``wanted`` asks."""
    check_free(run, again)
    old = read_record(run)
    lease.write_lease(run, lease.Owner.here(lease.last_attempt(run), preparing=True))
    clear_stop(run)
    kept = {
        "created_s": old.created_s,
        "started_s": old.started_s,
        "attempt": old.attempt,
        "restarts": old.restarts,
    }
    write_record(run, wanted.with_changes(**kept))


def abandon(run: URI, error: BaseException) -> None:
    """Record that a pending run failed before its driver could start."""
    record = read_record(run)
    write_record(
        run,
        record.with_changes(state="failed", ended_s=time.time(), error=ErrorRecord.of(error)),
    )
    lease.release(run)


class Attempt:
    """One attempt at a run: the claim, the heartbeat, the limits and the final record.

    Used by the driver process, as a context manager. Leaving it normally records ``succeeded``;
    an exception records ``failed``, RunCancelled ``cancelled``, KeyboardInterrupt
    ``interrupted``; Fenced changes nothing, since the run is somebody else's then. Exceptions
    always go on.

    >>> with Attempt(run) as attempt:                       # doctest: +SKIP
    ...     attempt.write_result(work(attempt.record.spec))

    A driver that is killed leaves the record ``running`` and a lease that grows stale, which
    readers show as ``interrupted``.

    Raises on entry:
        RunNotFound: There is no such run.
        RunError: The run has ended; :func:`create` takes it up again.
        RunNameInUse: Another process runs it.
    """

    def __init__(self, run: URI) -> None:
        self.run = run
        self._lock = threading.RLock()
        self._done = threading.Event()
        self._failure: ErrorRecord | None = None
        self._fenced = False

    def __enter__(self) -> Attempt:
        record = read_record(self.run)
        if record.state == "cancelled":
            raise RunCancelled(f"{self.run} was cancelled before it started.")
        if record.state in ENDED:
            raise RunError(f"{self.run} has {record.state}; the same call again takes it up.")
        self.owner = lease.claim(self.run)
        self.number = self.owner.attempt
        (self.run / RESULT).delete(recursive=True)
        now_s = time.time()
        self._started_s = now_s
        self.record = record.with_changes(
            state="running",
            attempt=self.number,
            started_s=record.started_s or now_s,
            ended_s=None,
            error=None,
            stop=None,
        )
        write_record(self.run, self.record)
        self.events = Journal(self.run / EVENTS, source_name(self.number, 0, "driver"))
        self.event("attempt_started")
        self._thread = threading.Thread(target=self._watch, name="eksml-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        try:
            self._end(error)
        except StorageError:
            if error is None:
                raise

    def event(self, kind: Kind, **fields: Any) -> None:
        """Add an event of this attempt to the run's events."""
        self.events.append(event(kind, self.number, **fields))

    def update(self, **changes: Any) -> RunRecord:
        """Change fields of the record.

        Raises:
            Fenced: A newer attempt owns the run.
        """
        with self._lock:
            self.check_fenced()
            self.record = self.record.with_changes(**changes)
            write_record(self.run, self.record)
            return self.record

    def check_fenced(self) -> None:
        """Ask before a change that an old owner must not make.

        Raises:
            Fenced: A newer attempt owns the run.
        """
        lease.check_fenced(self.run, self.number)

    @property
    def fenced(self) -> bool:
        """Whether the heartbeat has seen a newer attempt. Costs nothing; may lag by 5 s."""
        return self._fenced

    def stop_requested(self) -> Stop | None:
        """The wish to stop at the next checkpoint: cancelled, past its deadline, over budget."""
        return read_stop(self.run)

    def fail(self, error: ErrorRecord) -> None:
        """Say what to record if this attempt fails: the user's error rather than its carrier."""
        self._failure = error

    def write_result(self, value: Any, files: Mapping[str, bytes | Path] | None = None) -> None:
        """Commit the run's result: a JSON value, and files beside it.

        Raises:
            CallError: The value is not JSON.
            Fenced: A newer attempt owns the run.
        """
        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise CallError(
                f"The result of {self.record.entry} is not JSON: {error}. "
                "Return numbers, texts, lists and dictionaries; save anything else as a file."
            ) from error
        self.check_fenced()
        commit_files(self.run / RESULT, {**(files or {}), "result.json": text.encode()})

    def _watch(self) -> None:
        """Heartbeat and limits. Storage may fail for a while: the next beat tries again."""
        while not self._done.wait(lease.HEARTBEAT_S):
            try:
                self.check_fenced()
                lease.write_lease(self.run, self.owner)
                self._check_limits()
            except Fenced:
                self._fenced = True
                return
            except StorageError:
                continue

    def _check_limits(self) -> None:
        record = self.record
        if record.deadline_s and time.time() - self._started_s >= record.deadline_s:
            request_stop(self.run, "deadline")
        if record.budget_node_hours and self._node_hours() >= record.budget_node_hours:
            request_stop(self.run, "budget")

    def _node_hours(self) -> float:
        events = [entry.record for entry in Tail(self.run / EVENTS).new()]
        return receipt(events, now_s=time.time()).node_s / 3600

    def _end(self, error: BaseException | None) -> None:
        self.event("attempt_ended")
        try:
            self.events.close()
        finally:
            if not isinstance(error, Fenced):
                self._write_end(error)

    def _write_end(self, error: BaseException | None) -> None:
        changes: dict[str, Any] = {"state": _outcome(error), "ended_s": time.time()}
        if changes["state"] == "failed":
            assert error is not None
            changes["error"] = self._failure or ErrorRecord.of(error)
        if changes["state"] == "cancelled":
            stop = self.stop_requested()
            changes["stop"] = stop.stop if stop else "cancel"
        try:
            self.update(**changes)
        except Fenced:
            if error is None:
                raise
            return
        lease.release(self.run)


def _outcome(error: BaseException | None) -> State:
    if error is None:
        return "succeeded"
    if isinstance(error, RunCancelled):
        return "cancelled"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return "failed"
