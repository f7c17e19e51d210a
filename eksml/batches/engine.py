"""Drives a batch run: hands its blocks to the workers, follows them, and ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eksml.batches import ledger, pipeline, series
from eksml.batches.iceberg_table import IcebergTable
from eksml.batches.job import BatchJob
from eksml.batches.ledger import Done, Key
from eksml.batches.meter import Meter
from eksml.batches.models.base import Model
from eksml.batches.plan import Sizes
from eksml.batches.report import reasons, report
from eksml.batches.sink import Sink
from eksml.batches.sources.base import Source
from eksml.batches.tally import ASKED_AFTER, Tally, pending
from eksml.batches.worker import FAILURES, Assignment, Task, Told
from eksml.errors import Damaged, NotFound, RunCancelled, RunFailed
from eksml.runs import ErrorRecord
from eksml.runs.driver import Attempt
from eksml.storage import URI

STOP_POLL_S = {"file": 0.5, "s3": 2.0}


@dataclass(frozen=True)
class Batch:
    """All of a batch run: what is computed, from what, to where, and how."""

    model: Model
    source: Source
    output: URI
    job: BatchJob
    sizes: Sizes
    table: IcebergTable | None = None
    """What the output's files are added to at the end."""
    generation: int = 0
    """How often failed rows were asked to be tried again."""
    usd_per_node_hour: float | None = None


def drive(run: URI, batch: Batch) -> None:
    """Do what is left to do; leaves everything in the run's folder and the output.

    Raises:
        RunFailed: The model or the data failed as a whole, or too many rows did.
        RunCancelled: It was asked to stop.
        Fenced: Another process took the run over.
    """
    with Attempt(run) as attempt:
        began_s = time.time()
        blocks = {block.index: block for block in ledger.load(run)}
        done = {one.key: one for one in ledger.read_all(run)}
        tally = Tally(blocks)
        for one in done.values():
            tally.add(one)
        lost = 0
        with Meter(attempt, tally, batch.sizes) as meter:
            while left := pending(blocks.values(), done, batch.generation):
                before = len(done)
                try:
                    for told in _round(attempt, batch, [Task(k, blocks[k.block]) for k in left]):
                        if batch.table is not None and told.done.files and not tally.computed:
                            batch.table.check_file(batch.output / told.done.files[0])
                        done[told.done.key] = told.done
                        meter.add(told)
                        if tally.computed >= ASKED_AFTER:
                            _check_errors(run, tally.failed, tally.computed, batch.job)
                except _Lost as error:
                    lost = 1 if len(done) > before else lost + 1
                    if lost > batch.job.max_failures:
                        raise RunFailed(f"{run.name} failed: {error}") from error
        _check_errors(run, tally.errors, tally.rows + tally.errors, batch.job)
        table = None if batch.table is None else _added(attempt, batch, batch.table, done)
        attempt.write_result(
            report(
                run,
                tally,
                table=table,
                output=batch.output,
                seconds=time.time() - began_s,
                computing_s=meter.computing_s,
                node_hours=meter.node_hours,
                busy=meter.busy,
                usd_per_node_hour=batch.usd_per_node_hour,
            )
        )
    series.mark(run)


def _added(
    attempt: Attempt, batch: Batch, table: IcebergTable, done: Mapping[Key, Done]
) -> dict[str, Any]:
    """Add all files to the table; gives what the report says of it."""
    files: dict[int, list[URI]] = {}
    for key in sorted(done):
        found = [batch.output / name for name in done[key].files]
        files.setdefault(key.generation, []).extend(found)
    attempt.check_fenced()
    snapshot_id = table.add(attempt.run, attempt.record.created_s, files)
    return {**table.describe(), "snapshot_id": snapshot_id}


class _Lost(Exception):
    """The process that hands out blocks is gone, with its machine perhaps."""


def _round(attempt: Attempt, batch: Batch, tasks: list[Task]) -> Iterator[Told]:
    """Send blocks through the workers; gives receipts as they come.

    Raises:
        _Lost: It ended early. What is left can be done in another round.
    """
    import ray

    assignment = Assignment.of(
        attempt.run,
        attempt.number,
        batch.source,
        batch.model,
        sink=Sink(
            batch.output,
            batch.job.format,
            batch.job.partition_by,
            for_iceberg=batch.table is not None,
        ),
        keep=batch.job.keep,
        max_failures=batch.job.max_failures,
    )
    actor, receipts = pipeline.start(assignment, batch.sizes, tasks)
    ended = False
    try:
        with _stopping(attempt, actor):
            for reference in receipts:
                yield Told.parse(ray.get(reference))
        ended = True
    except ray.exceptions.RayError as error:
        raise _explained(attempt, error) from error
    finally:
        if not ended:  # else it goes by itself, and its workers close their models in peace
            ray.kill(actor)


@contextlib.contextmanager
def _stopping(attempt: Attempt, actor: Any) -> Iterator[None]:
    """End the workers once the run is asked to stop, belongs to somebody else, or has failed."""
    import ray

    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(STOP_POLL_S[attempt.run.scheme]):
            with contextlib.suppress(Exception):
                if attempt.fenced or attempt.stop_requested() or _note(attempt).exists():
                    ray.kill(actor)
                    return

    thread = threading.Thread(target=watch, name="eksml-batch-stop", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _explained(attempt: Attempt, error: Exception) -> Exception:
    """The error as its user should see it."""
    import ray

    attempt.check_fenced()
    if stop := attempt.stop_requested():
        return RunCancelled(f"{attempt.run.name} was stopped: {stop.stop}.")
    try:
        failure = ErrorRecord.model_validate(_note(attempt).read_json())
    except (NotFound, Damaged, ValueError):
        if isinstance(error, ray.exceptions.RayActorError):
            return _Lost(str(error))
        return RunFailed(f"{attempt.run.name} failed: {error}")
    attempt.fail(failure)
    return RunFailed(f"{failure.traceback}\n\n{attempt.run.name} failed in a worker.")


def _note(attempt: Attempt) -> URI:
    """Where a worker notes why it cannot go on."""
    return attempt.run / FAILURES / f"{attempt.number:06d}.json"


def _check_errors(run: URI, failed: int, rows: int, job: BatchJob) -> None:
    """Stop a run too many of whose rows fail, before all money is spent on it."""
    if failed <= job.max_error_share * rows:
        return
    most = next(iter(reasons(run).items()), ("unknown", 0))
    raise RunFailed(
        f"{failed:,} of {rows:,} rows failed, more than "
        f"max_error_share={job.max_error_share:g} allows. Most often ({most[1]:,}): {most[0]} "
        "Mend it and call again with retry_errors=True, or allow more. What is done stays done."
    )
