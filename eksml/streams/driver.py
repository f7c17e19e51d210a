"""The driver on a cluster: takes the packed graph, or handler, out of storage and drives it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from eksml.errors import CallError
from eksml.runs.call import unpack
from eksml.runs.connect import connect
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
    with tempfile.TemporaryDirectory(prefix="eksml-") as folder:
        # Ray sends one folder to every node. The working folder comes first and so goes on top
        for path in reversed(call.paths):
            shutil.copytree(path, folder, dirs_exist_ok=True)
        connect(working_dir=Path(folder) if call.paths else None)
        if "requests" in call.config:
            post, more = call.config["requests"]
            serve(run, post, **more)
            return
        job = StreamJob.model_validate(record.spec["job"])
        drive(run, call.config["graph"], job, **call.config["more"])
