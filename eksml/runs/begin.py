"""Begin a run that is recorded: its driver in this process, or on a cluster."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from eksml.errors import EksmlError
from eksml.runs.driver import abandon
from eksml.runs.run import Run
from eksml.runs.submit import submit
from eksml.storage import URI

if TYPE_CHECKING:
    from eksml.backends import Running


def begin_run(
    run: URI, drive: Callable[[], object], target: Running | None, *, module: str, wait: bool
) -> Run:
    """Start the run's driver, and follow the run to its end if ``wait``.

    Args:
        run: Its folder, the record ``pending``.
        drive: The driver in this process; its exceptions are in the run's record, from where
            :meth:`Run.wait` raises them.
        target: The cluster where ``python -m <module> <run>`` is the driver; None: this process.
        module: The verb's room.
        wait: Ctrl-C then asks a run in this process to stop, and returns once it has.

    Raises:
        ClusterError: The cluster did not take the job; the run is recorded as failed.
        RunFailed, RunCancelled, RunInterrupted: How it ended, with ``wait``.
    """
    if target is None:
        return _here(run, drive, wait)
    try:
        submit(run, target, module=module)
    except EksmlError as error:
        abandon(run, error)
        raise
    return Run(run).wait() if wait else Run(run)


def _here(run: URI, drive: Callable[[], object], wait: bool) -> Run:
    def work() -> None:
        with contextlib.suppress(Exception):
            drive()

    driver = threading.Thread(target=work, name=f"eksml-{run.name}", daemon=True)
    driver.start()
    handle = Run(run)
    if not wait:
        return handle
    try:
        return handle.wait()
    except KeyboardInterrupt:
        handle.cancel()
        raise
    finally:
        driver.join()
