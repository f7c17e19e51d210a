"""The driver on a cluster: takes the packed graph, or handler, out of storage and drives it."""

from __future__ import annotations

from eksml.errors import CallError
from eksml.runs.call import unpack
from eksml.runs.connect import connected
from eksml.runs.record import read_record
from eksml.storage import URI
from eksml.streams.engine import drive
from eksml.streams.job import StreamJob
from eksml.streams.requests.verb import serve


def run_driver(run: URI) -> None:
    """Drive the stream that was recorded in ``run``.

    Raises:
        EksmlError: As :func:`eksml.streams.engine.drive`; it is in the run's record too.
    """
    record = read_record(run)
    if not record.spec.get("call"):
        raise CallError(
            f"{run} was started in a process without a cluster, so its graph is not in storage. "
            "Call eksml.stream there again with the same name."
        )
    call = unpack(URI.parse(record.spec["call"]))
    with connected(call):
        if "requests" in call.config:
            post, more = call.config["requests"]
            serve(run, post, **more)
            return
        job = StreamJob.model_validate(record.spec["job"])
        drive(run, call.config["graph"], job, **call.config["more"])
