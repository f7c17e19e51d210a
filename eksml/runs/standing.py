"""How a run stands: its record, checked against what can be seen of its driver."""

from __future__ import annotations

from eksml.runs.lease import STALE_S, live_owner, read_lease
from eksml.runs.record import ENDED, RECORD, RunRecord, State, read_record
from eksml.runs.submit import job_status
from eksml.storage import URI


def state_of(run: URI, record: RunRecord | None = None) -> State:
    """The state to show: ``interrupted`` if the run should be going on and nobody works on it.

    A submitted run whose job waits for resources has no driver yet: the Jobs API speaks for it,
    and where that does not answer, the record stands. A job that ended before its driver could
    begin makes the run ``failed``.
    """
    record = record or read_record(run)
    if record.state in ENDED:
        return record.state
    owner = live_owner(run)
    if owner is not None and not owner.preparing:
        return record.state
    seen = _prepared(run, record, owner is not None)
    if seen in ("pending", "running"):
        return seen
    again = read_record(run)  # it may have ended, or begun, while we looked
    return seen if again == record else state_of(run, again)


def _prepared(run: URI, record: RunRecord, creator_lives: bool) -> State:
    """The state of a run that no attempt works on."""
    if record.state != "pending":
        # A job that goes on is about to replace a driver that was killed
        job = job_status(run, record) if record.job_id else None
        return record.state if job is not None and not job.ended else "interrupted"
    if record.job_id is None:
        begun = creator_lives or (read_lease(run) is None and _is_new(run))
        return "pending" if begun else "interrupted"
    job = job_status(run, record)
    if job is None or not job.ended:
        return "pending"
    if job.status == "GONE":  # recorded first, sent then
        return "pending" if _is_new(run) else "interrupted"
    return "failed"


def _is_new(run: URI) -> bool:
    stat = (run / RECORD).stat()
    return stat is not None and stat.age_s < STALE_S
