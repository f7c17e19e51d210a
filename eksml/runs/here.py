"""A run in the caller's own process: its driver in a thread, so that the caller can follow it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from eksml.runs.run import Run
from eksml.storage import URI


def run_here(run: URI, drive: Callable[[], object], *, wait: bool) -> Run:
    """Call ``drive()`` in a thread, and follow the run to its end if ``wait``.

    Ctrl-C asks the run to stop, and returns once it has. What ends the run is in its record, from
    where :meth:`Run.wait` raises it.
    """

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
