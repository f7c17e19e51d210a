"""The driver of a stream as a process: ``python -m eksml.streams <run uri>``."""

from __future__ import annotations

import sys

from eksml.runs.supervise import main
from eksml.storage import URI


def _drive(run: URI) -> None:
    from eksml.streams.driver import run_driver

    run_driver(run)


def _newest_epoch(run: URI) -> int:
    from eksml.streams.checkpoints import epochs_of

    return max(epochs_of(run), default=0)


if __name__ == "__main__":
    sys.exit(main("eksml.streams", _drive, _newest_epoch, sys.argv[1:]))
