"""Send a run's driver to a cluster's Jobs API, and ask there how it stands."""

from __future__ import annotations

import secrets
import shlex
from typing import TYPE_CHECKING

from eksml.errors import ClusterError, ClusterNotUp, EksmlError
from eksml.runs.jobs import Job, Jobs
from eksml.runs.lease import read_lease
from eksml.runs.record import RunRecord, read_record, write_record
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends import Running


def submit(run: URI, running: Running, *, module: str) -> str:
    """Start ``python -m <module> <run>`` on the cluster; returns the submission id.

    The id is recorded before the job is sent, so that no job is without a record, and a lost
    answer starts no second one. Credentials do not travel: the cluster has its own.

    Raises:
        ClusterNotUp: The Jobs API does not answer.
        ClusterError: It refused the job.
    """
    record = read_record(run)
    submission_id = f"{record.name}-{record.attempt + 1:06d}-{secrets.token_hex(3)}"
    write_record(run, record.with_changes(job_id=submission_id, cluster=running.name))
    Jobs(running.jobs_address, running.token).submit(
        submission_id,
        f"python -m {module} {shlex.quote(str(run))}",
        runtime_env={"env_vars": {"PYTHONUNBUFFERED": "1"}},
        metadata={"eksml_run": str(run)},
    )
    return submission_id


def job_status(run: URI, record: RunRecord) -> Job | None:
    """The run's job at the Jobs API; None without a job, or where the API is out of reach."""
    if record.job_id is None:
        return None
    try:
        jobs = jobs_of(record)
        return jobs.status(record.job_id, tries=1)
    except ClusterNotUp as error:
        owner = read_lease(run)
        if owner is not None and owner.is_here():
            return Job(record.job_id, "GONE", str(error))
        return None
    except EksmlError:
        return None


def stop_job(record: RunRecord) -> None:
    """Terminate the run's job, the last resort.

    Raises:
        ClusterError: The Jobs API does not answer or refused.
    """
    if record.job_id is not None:
        jobs_of(record).stop(record.job_id)


def job_log(record: RunRecord) -> str:
    """What the run's job printed, empty where that cannot be asked."""
    if record.job_id is None:
        return ""
    try:
        return jobs_of(record).log(record.job_id)
    except ClusterError:
        return ""


def jobs_of(record: RunRecord) -> Jobs:
    """The Jobs API of the run's cluster.

    Raises:
        ClusterNotUp: It is not up, as far as this machine knows.
    """
    from eksml import backends

    running = backends.of(record.cluster)
    if running is None:
        raise ClusterNotUp(f"The run {record.name} names no cluster.")
    return Jobs(running.jobs_address, running.token)
