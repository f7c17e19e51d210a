"""The driver of a training run as a process: ``python -m eksml.training <run uri>``."""

from __future__ import annotations

import sys

from eksml.runs.supervise import main
from eksml.storage import URI


def _drive(run: URI) -> None:
    from eksml.training.driver import run_driver

    run_driver(run)


def _newest_step(run: URI) -> int:
    from eksml.training.checkpoints import steps_of

    return max(steps_of(run), default=0)


if __name__ == "__main__":
    sys.exit(main("eksml.training", _drive, _newest_step, sys.argv[1:]))
