"""Who owns a run: numbered attempts decide, a lease tells whether the owner still lives.

``attempts/000001.json`` is written with if-absent, so that one claimant gets each number; the
highest number owns the run and every older owner is fenced. ``lease.json`` is the owner's
heartbeat. Its age is measured on the storage's clock, never by comparing two machines' clocks.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from typing import Any

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import AlreadyExists, Damaged, Fenced, NotFound, RunNameInUse
from eksml.storage import URI

HEARTBEAT_S = 5.0
STALE_S = 20.0
"""Age at which a lease says nothing any more: three lost heartbeats and one to spare."""
PREPARING_S = 120.0
"""The same for a process that creates the run and sends its job, which has no heartbeat yet."""
LEASE = "lease.json"
ATTEMPTS = "attempts"


class Owner(BaseModel):
    """A process that owns, or prepares, an attempt of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempt: int
    preparing: bool = False
    """It creates or submits the run and has not claimed an attempt."""
    host: str
    pid: int
    pid_started_s: float
    """Start of the process, so that a recycled pid is not mistaken for it."""
    token: str = ""
    started_s: float = 0.0

    @classmethod
    def here(cls, attempt: int, *, preparing: bool = False) -> Owner:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(
            attempt=attempt,
            preparing=preparing,
            host=socket.gethostname(),
            pid=pid,
            pid_started_s=psutil.Process(pid).create_time(),
            token=uuid.uuid4().hex,
            started_s=time.time(),
        )

    def is_here(self) -> bool:
        """Whether it runs, or ran, on this machine."""
        return self.host == socket.gethostname()

    def process_lives(self) -> bool:
        """Whether the process still exists. Ask only where :meth:`is_here`."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.pid_started_s) < 2.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def write_lease(run: URI, owner: Owner) -> None:
    """Say that the owner lives. Called every ``HEARTBEAT_S``."""
    (run / LEASE).write_json(owner.model_dump())


def release(run: URI) -> None:
    """Give the lease up, at the end of an attempt or before a takeover."""
    (run / LEASE).delete()


def read_lease(run: URI) -> Owner | None:
    """The last lease, alive or not; None if there is none.

    Raises:
        Damaged: It is not a lease.
    """
    return _read_owner(run / LEASE)


def live_owner(run: URI) -> Owner | None:
    """The process that works on the run now, as far as can be seen from here.

    Alive means: heard of less than ``STALE_S`` ago, or another process of this machine that still
    exists (it may be stopped, and go on). On this machine a process that is gone is dead at once.
    A lease of an attempt that was superseded counts for nothing, the newer claim does.
    """
    return _live_owner(run, last_attempt(run))


def _live_owner(run: URI, newest: int) -> Owner | None:
    uri, owner = run / LEASE, read_lease(run)
    if newest and (owner is None or owner.attempt < newest):
        uri = _claim_uri(run, newest)  # a claim is its owner's first heartbeat
        owner = _read_owner(uri)
    if owner is None:
        return None
    if owner.is_here():
        if not owner.process_lives():
            return None
        if owner.pid != os.getpid():
            return owner
    stat = uri.stat()
    limit_s = PREPARING_S if owner.preparing else STALE_S
    return owner if stat is not None and stat.age_s < limit_s else None


def last_attempt(run: URI) -> int:
    """The highest attempt number that was claimed; 0 if none."""
    names = [stat.uri.name.removesuffix(".json") for stat in (run / ATTEMPTS).list()]
    return max((int(name) for name in names if name.isdigit()), default=0)


def claim(run: URI) -> Owner:
    """Take the next attempt number for this process.

    Raises:
        RunNameInUse: Another process was faster, or lives.
    """
    newest = last_attempt(run)  # once: a rival that claims after this has taken the next number
    alive = _live_owner(run, newest)
    if alive is not None and not alive.preparing:
        raise RunNameInUse(
            f"{run} is being run by process {alive.pid} on {alive.host} "
            f"(attempt {alive.attempt}). Wait for it or cancel it."
        )
    owner = Owner.here(newest + 1)
    try:
        _claim_uri(run, owner.attempt).write_json(owner.model_dump(), if_absent=True)
    except AlreadyExists as error:
        raise RunNameInUse(
            f"{run}: another process claimed attempt {owner.attempt} at the same time and runs it."
        ) from error
    write_lease(run, owner)
    return owner


def check_fenced(run: URI, attempt: int) -> None:
    """Ask before a change that must not come from an old owner. From any process.

    Raises:
        Fenced: A newer attempt exists.
    """
    newest = last_attempt(run)
    if newest > attempt:
        raise Fenced(
            f"{run}: attempt {newest} took over from attempt {attempt}, which must stop. "
            "Its work after the last common checkpoint is discarded."
        )


def _claim_uri(run: URI, attempt: int) -> URI:
    return run / ATTEMPTS / f"{attempt:06d}.json"


def _read_owner(uri: URI) -> Owner | None:
    try:
        value: Any = uri.read_json()
    except NotFound:
        return None
    try:
        return Owner.model_validate(value)
    except ValidationError as error:
        raise Damaged(f"{uri} does not name an owner: {error.errors()[0]['msg']}.") from error
