"""The driver of a run as a process: ``python -m eksml.<room> <run uri>``.

What a cluster's Jobs API starts, and what anybody may start by hand with ``ray job submit``. The
process itself only watches over another one, which does the work: should that be killed, a new
one goes on from what was committed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from eksml.errors import EksmlError, StorageError
from eksml.storage import URI

Advance = Callable[[URI], int]
"""How far a run has come, as a number that grows with each commit."""

_MAX_KILLS = 3
"""Drivers that are killed in a row, each within a minute and before a new commit, until it is
given up."""
_MINUTE_S = 60.0


def main(
    module: str, run_driver: Callable[[URI], None], advance: Advance, arguments: list[str]
) -> int:
    """Entry point of ``python -m <module>``; returns the exit code.

    ``run_driver`` does the work, in a process of its own; it raises an EksmlError if it fails.
    """
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return _supervise(module, arguments[0], advance)
    if len(arguments) != 2 or arguments[0] != "--driver":
        print(f"usage: python -m {module} RUN_URI", file=sys.stderr)
        return 2
    try:
        run_driver(URI.parse(arguments[1]))
    except EksmlError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _supervise(module: str, uri: str, advance: Advance) -> int:
    """Run the driver, and again whenever a signal ended it. Returns its exit code."""
    kills, reached = 0, 0
    while True:
        began_s = time.monotonic()
        code = subprocess.call([sys.executable, "-m", module, "--driver", uri])
        if code >= 0:
            return code
        before, reached = reached, _reached(uri, advance)
        went_on = reached > before or time.monotonic() - began_s > _MINUTE_S
        kills = 1 if went_on else kills + 1
        print(f"eksml: the driver of {uri} was ended by signal {-code}", file=sys.stderr)
        if kills >= _MAX_KILLS:
            return 128 - code


def _reached(uri: str, advance: Advance) -> int:
    try:
        return advance(URI.parse(uri))
    except StorageError:
        return 0
