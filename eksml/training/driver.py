"""The driver on a cluster: takes the packed call out of storage and trains."""

from __future__ import annotations

from eksml.errors import CallError
from eksml.runs.call import unpack
from eksml.runs.connect import connected
from eksml.runs.record import read_record
from eksml.storage import URI
from eksml.training.engine import drive
from eksml.training.job import TrainJob


def run_driver(run: URI) -> None:
    """Train the run that was recorded in ``run``.

    Raises:
        EksmlError: As :func:`eksml.training.engine.drive`; it is in the run's record too.
    """
    record = read_record(run)
    if not record.spec.get("call"):
        raise CallError(
            f"{run} was started in a process without a cluster, so its function is not in storage. "
            "Call eksml.train there again with the same name."
        )
    call = unpack(URI.parse(record.spec["call"]))
    job = TrainJob.model_validate(record.spec["job"])
    with connected(call):
        drive(run, call.function, call.config["config"], job, call.config["data"])
