"""The driver of a batch run as a process: ``python -m eksml.batches <run uri>``."""

from __future__ import annotations

import sys

from eksml.runs.supervise import main
from eksml.storage import URI


def _drive(run: URI) -> None:
    from eksml.batches.driver import run_driver

    run_driver(run)


def _blocks_done(run: URI) -> int:
    from eksml.batches import ledger

    return len(ledger.keys(run))


if __name__ == "__main__":
    sys.exit(main("eksml.batches", _drive, _blocks_done, sys.argv[1:]))
