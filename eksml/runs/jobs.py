"""A client of Ray's Jobs REST API, with retries, that imports no Ray.

``ray.job_submission.JobSubmissionClient`` is not used: it never retries, it imports Ray (0.4 s),
and ``RAY_ADDRESS`` silently overrides the address it is given, so that one process could not speak
to two clusters. The REST API under it is public: docs.ray.io, «Ray Jobs REST API».
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from eksml.errors import ClusterError, ClusterNotUp

TRIES = 5
TIMEOUT_S = 10.0
FIRST_PAUSE_S = 0.5


@dataclass(frozen=True)
class Job:
    """A job as the Jobs API tells it."""

    submission_id: str
    status: str
    """``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``FAILED`` or ``STOPPED``; ``GONE`` if the cluster
    does not know it (any more)."""
    message: str = ""
    exit_code: int | None = None

    @property
    def ended(self) -> bool:
        """Whether its process is over."""
        return self.status not in ("PENDING", "RUNNING")


@dataclass(frozen=True)
class Jobs:
    """The Jobs API at ``address``; every call may be repeated, and is."""

    address: str
    token: str | None = None

    def submit(
        self,
        submission_id: str,
        entrypoint: str,
        *,
        runtime_env: dict[str, Any] | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Job:
        """Start a job once, however often the answer gets lost: the id is used only once.

        Raises:
            ClusterNotUp: Nothing answers at the address.
            ClusterError: It answered with a refusal.
        """
        body = {
            "submission_id": submission_id,
            "entrypoint": entrypoint,
            "runtime_env": runtime_env or {},
            "metadata": metadata or {},
        }
        for attempt in range(1, TRIES + 1):
            try:
                self._call("POST", "/api/jobs/", body, tries=1)
            except ClusterError as error:
                job = self.status(submission_id)  # it may have arrived, and only the answer is lost
                if job.status != "GONE":
                    return job
                if attempt == TRIES or not isinstance(error, ClusterNotUp):
                    raise
            else:
                break
        return Job(submission_id, "PENDING")

    def status(self, submission_id: str, *, tries: int = TRIES) -> Job:
        """How the job stands.

        Raises:
            ClusterNotUp: Nothing answers at the address.
        """
        try:
            value = self._call("GET", f"/api/jobs/{submission_id}", tries=tries)
        except _Unknown:
            return Job(submission_id, "GONE", "The cluster does not know this job.")
        return Job(
            submission_id,
            value.get("status") or "PENDING",
            value.get("message") or "",
            value.get("driver_exit_code"),
        )

    def stop(self, submission_id: str) -> None:
        """Terminate the job's process, killing it if it does not end. An unknown job is fine."""
        try:
            self._call("POST", f"/api/jobs/{submission_id}/stop")
        except _Unknown:
            return

    def log(self, submission_id: str) -> str:
        """What the job's process has printed; empty if the cluster does not know the job."""
        try:
            value = self._call("GET", f"/api/jobs/{submission_id}/logs")
        except _Unknown:
            return ""
        return str(value.get("logs") or "")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, tries: int = TRIES
    ) -> dict[str, Any]:
        request = urllib.request.Request(
            self.address.rstrip("/") + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **self._authorization()},
        )
        for attempt in range(1, tries + 1):
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                    value: dict[str, Any] = json.load(answer)
                    return value
            except urllib.error.HTTPError as error:
                with error:
                    text = error.read().decode(errors="replace")
                if error.code < 500 or attempt == tries:
                    raise _refusal(self.address, error.code, text) from error
            except (OSError, ValueError) as error:
                if attempt == tries:
                    raise ClusterNotUp(
                        f"No Jobs API answers at {self.address} ({tries} tries): {error}. "
                        "Is the cluster up, and can this machine reach it?"
                    ) from error
            time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
        raise AssertionError("the last try returns or raises")

    def _authorization(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class _Unknown(ClusterError):
    """The cluster has no such job."""


def _refusal(address: str, code: int, text: str) -> ClusterError:
    if code == 404:
        return _Unknown(f"{address} does not know the job.")
    if code in (401, 403):
        return ClusterError(
            f"{address} refused the token ({code}). Take the cluster's own: set "
            "RAY_AUTH_TOKEN_PATH, or give the cluster by its name."
        )
    return ClusterError(f"{address} answered {code}: {text.strip()[-2000:]}")
