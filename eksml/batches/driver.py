"""The driver on a cluster: takes the model and the data's description out of storage."""

from __future__ import annotations

from eksml.batches.engine import Batch, drive
from eksml.batches.job import BatchJob
from eksml.batches.plan import Sizes
from eksml.errors import CallError
from eksml.runs.call import unpack
from eksml.runs.connect import connected
from eksml.runs.record import read_record
from eksml.storage import URI


def run_driver(run: URI) -> None:
    """Compute the run that was recorded in ``run``.

    Raises:
        EksmlError: As :func:`eksml.batches.engine.drive`; it is in the run's record too.
    """
    spec = read_record(run).spec
    if not spec.get("call"):
        raise CallError(
            f"{run} was started in a process without a cluster, so its model is not in storage. "
            "Call eksml.batch there again with the same name."
        )
    call = unpack(URI.parse(spec["call"]))
    batch = Batch(
        model=call.config["model"],
        source=call.config["source"],
        output=URI.parse(spec["output"]),
        job=BatchJob.model_validate(spec["job"]),
        table=call.config.get("table"),
        sizes=Sizes(**{**spec["sizes"], "workers": tuple(spec["sizes"]["workers"])}),
        generation=spec["generation"],
        usd_per_node_hour=spec["usd_per_node_hour"],
    )
    with connected(call):
        drive(run, batch)
