"""Why a run waits or ended, in a sentence with what to do about it."""

from __future__ import annotations

from eksml.runs.control import read_stop
from eksml.runs.lease import read_lease
from eksml.runs.progress import Progress, read_progress
from eksml.runs.record import RunRecord, State, read_record
from eksml.runs.standing import state_of
from eksml.runs.submit import job_log, job_status
from eksml.storage import URI

LOG_LINES = 20
"""Lines of the job's own log that are shown when its driver never began."""


def why(run: URI) -> str:
    """One sentence on what the run waits for, how far it is, or why it ended."""
    record = read_record(run)
    state = state_of(run, record)
    if state == "pending":
        return _waits(run, record)
    if state == "running":
        return _goes_on(run)
    if state == "succeeded":
        return f"It succeeded{_after(read_progress(run))}."
    if state == "failed" and record.error is not None:
        where = _where(record)
        return f"It failed{where}: {record.error.type}: {_first_line(record.error.message)}"
    return _last_line(ending(run, state))


def ending(run: URI, state: State) -> str:
    """The text of the exception for a run that did not succeed."""
    record = read_record(run)
    if state == "failed":
        return _failure(record)
    if state == "cancelled":
        return _cancelled(run, record)
    owner = read_lease(run)
    driver = f" (process {owner.pid} on {owner.host})" if owner is not None else ""
    after = _after(read_progress(run))
    return (
        f"The driver{driver} of the run {record.name} is gone{after}. "
        "The same call with the same name goes on from the last checkpoint."
    )


def _failure(record: RunRecord) -> str:
    if record.error is None:
        log = job_log(record).splitlines()[-LOG_LINES:]
        return "\n".join(
            [*log, f"The job {record.job_id} of the run {record.name} ended before it could begin."]
        )
    text = record.error.traceback or f"{record.error.type}: {record.error.message}"
    return (
        f"{text}\n\nThe run {record.name} failed{_where(record)}. Mend it and call again with the "
        "same name: it goes on from the last checkpoint."
    )


def _cancelled(run: URI, record: RunRecord) -> str:
    reasons = {
        "deadline": f"reached its deadline of {record.deadline_s} s",
        "budget": f"spent its budget of {record.budget_node_hours} node-hours",
    }
    reason = reasons.get(record.stop or "", "was cancelled")
    return (
        f"The run {record.name} {reason}{_after(read_progress(run))}. "
        "The same call with the same name goes on from the last checkpoint."
    )


def _waits(run: URI, record: RunRecord) -> str:
    job = job_status(run, record)
    if job is not None and job.message:
        return f"It waits for its job on the cluster {record.cluster}: {_first_line(job.message)}"
    if job is not None:
        return f"It waits for its driver to begin: the job {job.submission_id} is {job.status}."
    if record.job_id is not None:
        return (
            f"It waits on the cluster {record.cluster}, whose Jobs API cannot be reached from "
            "here. Is the cluster up?"
        )
    return "It waits for its driver to begin."


def _goes_on(run: URI) -> str:
    progress = read_progress(run)
    if progress is None:
        return "Its driver runs; its workers have not begun. It may wait for resources."
    stop = read_stop(run)
    stopping = f", and stops at its next checkpoint ({stop.stop})" if stop else ""
    return f"It is {progress.phase}{_at(progress)}{stopping}."


def _where(record: RunRecord) -> str:
    error = record.error
    if error is None:
        return ""
    rank = f" on rank {error.rank}" if error.rank is not None else ""
    step = f" at step {error.step}" if error.step is not None else ""
    return rank + step


def _after(progress: Progress | None) -> str:
    if progress is None:
        return ""
    total = f" of {progress.total}" if progress.total else ""
    return f" after {progress.unit} {progress.step}{total}"


def _at(progress: Progress) -> str:
    return _after(progress).replace("after", "at")


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]
