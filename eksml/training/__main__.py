"""The driver of a training run as a process: ``python -m eksml.training <run uri>``.

What a cluster's Jobs API starts, and what anybody may start by hand with ``ray job submit``. The
process itself only watches over another one, which does the work: should that be killed, a new
one goes on from the last checkpoint.
"""

from __future__ import annotations

import subprocess
import sys
import time

from eksml.errors import EksmlError, StorageError
from eksml.storage import URI

_MAX_KILLS = 3
"""Drivers that are killed in a row, each within a minute and before a new checkpoint, until it is
given up."""
_MINUTE_S = 60.0


def supervise(uri: str) -> int:
    """Run the driver, and again whenever a signal ended it. Returns its exit code."""
    kills, progress = 0, 0
    while True:
        began_s = time.monotonic()
        code = subprocess.call([sys.executable, "-m", "eksml.training", "--driver", uri])
        if code >= 0:
            return code
        before, progress = progress, _progress(URI.parse(uri))
        advanced = progress > before or time.monotonic() - began_s > _MINUTE_S
        kills = 1 if advanced else kills + 1
        print(f"eksml: the driver of {uri} was ended by signal {-code}", file=sys.stderr)
        if kills >= _MAX_KILLS:
            return 128 - code


def _progress(run: URI) -> int:
    """The step of the newest checkpoint."""
    from eksml.training.checkpoints import steps_of

    try:
        return max(steps_of(run), default=0)
    except StorageError:
        return 0


def main(arguments: list[str]) -> int:
    """Entry point; returns the exit code."""
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return supervise(arguments[0])
    if len(arguments) != 2 or arguments[0] != "--driver":
        print("usage: python -m eksml.training RUN_URI", file=sys.stderr)
        return 2
    from eksml.training.driver import run_driver

    try:
        run_driver(URI.parse(arguments[1]))
    except EksmlError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
