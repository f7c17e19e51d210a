"""The driver of a batch run as a process: ``python -m eksml.batches <run uri>``; or, by the clock,
a series' next edition: ``python -m eksml.batches --series <call uri>``."""

from __future__ import annotations

import sys

from eksml.errors import EksmlError
from eksml.runs.supervise import main
from eksml.storage import URI


def _drive(run: URI) -> None:
    from eksml.batches.driver import run_driver

    run_driver(run)


def _blocks_done(run: URI) -> int:
    from eksml.batches import ledger

    return len(ledger.keys(run))


def _run_series(call: str) -> int:
    from eksml.batches.schedule import run_series

    try:
        run_series(URI.parse(call))
    except EksmlError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--series":
        sys.exit(_run_series(sys.argv[2]))
    sys.exit(main("eksml.batches", _drive, _blocks_done, sys.argv[1:]))
