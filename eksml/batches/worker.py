"""What runs in each worker: the model, loaded once, and block after block through it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eksml.batches import error_table, ledger
from eksml.batches.blocks import ERROR, FILE, INTERNAL, PLACE, Block, Piece
from eksml.batches.ledger import Done, Key
from eksml.batches.models.base import Loaded, Model, Outcome
from eksml.batches.sink import Sink
from eksml.batches.sources.base import Source
from eksml.batches.tries import Tries
from eksml.errors import EngineDied
from eksml.runs import ErrorRecord
from eksml.runs.journal import Journal, source_name
from eksml.runs.lease import check_fenced
from eksml.runs.tee import tee
from eksml.storage import URI

if TYPE_CHECKING:
    import pyarrow as pa

FAILURES = "failures"
"""Notes of what went wrong in a worker, one an attempt: the first."""
T = TypeVar("T")


@dataclass(frozen=True)
class Assignment:
    """All that a worker needs to know; travels by pickle within one Ray."""

    run: URI
    attempt: int
    call: bytes
    """The source and the model, pickled: Ray Data passes them on unopened, since it lacks the
    modules that they may need."""
    paths: tuple[str, ...]
    """The driver's ``sys.path``, for modules that lie on the same machine."""
    sink: Sink
    keep: tuple[str, ...] | None
    max_failures: int

    @classmethod
    def of(cls, run: URI, attempt: int, source: Source, model: Model, **how: Any) -> Assignment:
        """Pack source and model for the workers."""
        import cloudpickle

        paths = tuple(os.path.abspath(path) for path in sys.path)
        return cls(run, attempt, cloudpickle.dumps((source, model)), paths, **how)

    def open(self) -> tuple[Source, Model]:
        """Source and model, in the worker."""
        import cloudpickle

        sys.path += [path for path in self.paths if path not in sys.path]
        source, model = cloudpickle.loads(self.call)
        return source, model


@dataclass(frozen=True)
class Task:
    """One block in one generation, as text on its way to a worker."""

    key: Key
    block: Block

    def to_text(self) -> str:
        """JSON."""
        return json.dumps([self.key.generation, self.block.index, *map(asdict, self.block.pieces)])

    @classmethod
    def parse(cls, text: str) -> Task:
        """What ``to_text`` gave."""
        generation, index, *pieces = json.loads(text)
        block = Block(index, tuple(Piece(**piece) for piece in pieces))
        return cls(Key(index, generation), block)


@dataclass(frozen=True)
class Told:
    """What a worker tells the driver of a block that is done."""

    done: Done
    worker: str
    busy: dict[str, float]
    """Of the worker's model since it was loaded, see ``Loaded.busy``."""

    def to_text(self) -> str:
        """JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Told:
        """What ``to_text`` gave."""
        value = json.loads(text)
        done = Done(**{**value["done"], "files": tuple(value["done"]["files"])})
        return cls(done, value["worker"], value["busy"])


class Worker:
    """A stage of Ray Data. Its calls come from several threads at once."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._open = contextlib.ExitStack()
        self._tries = Tries(assignment.run, assignment.attempt)
        self._computing = threading.Lock()
        self._name = f"worker-{os.getpid()}-{time.time_ns():x}"
        source = source_name(assignment.attempt, 0, self._name)
        journal = self._open.enter_context(Journal(assignment.run / "logs", source))
        self._open.enter_context(tee(journal))
        with self._telling():
            self._source, model = assignment.open()
            self._loaded: Loaded = self._alive(model.load)
        self._rows = _counter(assignment.run.name)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the block that a row of the stage's input names, and commit it."""
        done = [self._do(Task.parse(str(text))) for text in batch["task"]]
        return {"done": [Told(one, self._name, self._loaded.busy()).to_text() for one in done]}

    def __del__(self) -> None:
        """Let go of the model and the logs: how Ray Data ends a worker that it needs no more."""
        if loaded := getattr(self, "_loaded", None):
            loaded.close()
        self._open.close()

    def _do(self, task: Task) -> Done:
        assignment = self._assignment
        check_fenced(assignment.run, assignment.attempt)
        if done := ledger.find(assignment.run, task.key):
            return done  # the worker that did it died before it could say so
        began_s = time.monotonic()
        with self._telling():
            alone = self._tries.alone(task.key)
            # To the commit: a block that is not committed must not share its worker's death
            with self._tries.turn(task.key, alone=alone is not None):
                table, outcome = self._compute(task, alone or 0)
                return self._commit(task.key, table, outcome, began_s)

    def _compute(self, task: Task, tries: int) -> tuple[pa.Table, Outcome]:
        """The block's rows and what became of them, in the rows' order."""
        import pyarrow as pa

        table = self._read(task)
        unread = _unread(table)
        if tries >= self._assignment.max_failures:
            told = f"took its worker down {tries} times, computed alone with its block"
            unread |= {row: told for row in range(table.num_rows) if row not in unread}
        good = [row for row in range(table.num_rows) if row not in unread]
        rows = table.drop_columns([name for name in INTERNAL if name in table.column_names])
        if not good:
            return table, Outcome(pa.table({}), unread)
        outcome = self._call(
            rows if len(good) == table.num_rows else rows.take(pa.array(good, pa.int64()))
        )
        outcome.errors = unread | {good[row]: told for row, told in outcome.errors.items()}
        if len(good) < table.num_rows:
            outcome.columns = _spread(outcome.columns, good, table.num_rows)
        return table, outcome

    def _call(self, rows: pa.Table) -> Outcome:
        if self._loaded.threads > 1:
            return self._alive(lambda: self._loaded.compute(rows))
        with self._computing:
            return self._alive(lambda: self._loaded.compute(rows))

    def _alive(self, work: Callable[[], T]) -> T:
        """What ``work()`` returns. If the engine dies, so does this worker: Ray starts another one
        and sends it what this one had, the road for every death."""
        try:
            return work()
        except EngineDied as error:
            print(f"eksml: {error} The worker ends, and another takes its place.", flush=True)
            self._open.close()
            os._exit(1)

    def _read(self, task: Task) -> pa.Table:
        import pyarrow as pa

        tables = [self._source.read(piece) for piece in task.block.pieces]
        table = pa.concat_tables(tables, promote_options="permissive")
        if not task.key.generation:
            return table
        older = Key(task.key.block, task.key.generation - 1)
        wanted = error_table.places(self._assignment.run, older)
        pairs = zip(table[FILE].to_pylist(), table[PLACE].to_pylist(), strict=True)
        return table.filter(pa.array([pair in wanted for pair in pairs], pa.bool_()))

    def _commit(self, key: Key, table: pa.Table, outcome: Outcome, began_s: float) -> Done:
        assignment, errors = self._assignment, outcome.errors
        check_fenced(assignment.run, assignment.attempt)
        files = assignment.sink.write(key, _result(table, outcome, assignment.keep))
        error_table.write(assignment.run, key, _failed(table, errors))
        done = ledger.record(
            assignment.run,
            Done(
                block=key.block,
                generation=key.generation,
                rows=table.num_rows - len(errors),
                errors=len(errors),
                files=files,
                attempt=assignment.attempt,
                seconds=round(time.monotonic() - began_s, 3),
                lengths={name: _histogram(values) for name, values in outcome.lengths.items()},
            ),
        )
        error_table.forget_older(assignment.run, key)
        self._rows(done.rows, done.errors)
        return done

    @contextlib.contextmanager
    def _telling(self) -> Any:
        """What goes wrong is noted for the driver: Ray hands on no more than its text."""
        try:
            yield
        except Exception as error:
            note = self._assignment.run / FAILURES / f"{self._assignment.attempt:06d}.json"
            with contextlib.suppress(Exception):
                note.write_json(ErrorRecord.of(error).model_dump(), if_absent=True)
            raise


def _unread(table: pa.Table) -> dict[int, str]:
    """Rows that the source could not read, and why."""
    if ERROR not in table.column_names or table[ERROR].null_count == table.num_rows:
        return {}
    return {row: told for row, told in enumerate(table[ERROR].to_pylist()) if told is not None}


def _spread(columns: pa.Table, rows: list[int], count: int) -> pa.Table:
    """Columns for ``rows`` as columns for all ``count`` rows, null elsewhere."""
    import pyarrow as pa

    place: list[int | None] = [None] * count
    for index, row in enumerate(rows):
        place[row] = index
    return columns.take(pa.array(place, pa.int64()))


def _result(table: pa.Table, outcome: Outcome, keep: tuple[str, ...] | None) -> pa.Table:
    """Input columns and new ones, of the rows that succeeded. A new column replaces an old one."""
    import pyarrow as pa

    new = outcome.columns
    kept = [
        name
        for name in (table.column_names if keep is None else keep)
        if name not in INTERNAL and name not in new.column_names
    ]
    whole = table.select(kept)
    for name in new.column_names:
        whole = whole.append_column(new.schema.field(name), new.column(name))
    if not outcome.errors:
        return whole
    good = [row for row in range(table.num_rows) if row not in outcome.errors]
    return whole.take(pa.array(good, pa.int64()))


def _failed(table: pa.Table, errors: dict[int, str]) -> pa.Table:
    import pyarrow as pa

    rows = sorted(errors)
    failed = table.take(pa.array(rows, pa.int64()))
    if ERROR in failed.column_names:
        failed = failed.drop_columns([ERROR])
    return failed.append_column(ERROR, pa.array([errors[row] for row in rows], pa.string()))


def _histogram(values: list[int]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(values).items())}


def _counter(run: str) -> Any:
    """Counts rows and errors for Ray's Prometheus endpoint."""
    from ray.util.metrics import Counter as Metric

    tags = {"run": run}
    rows = Metric("eksml_batch_rows_total", "Rows written to the output.", tag_keys=("run",))
    errors = Metric("eksml_batch_errors_total", "Rows that failed.", tag_keys=("run",))

    def count(num_rows: int, num_errors: int) -> None:
        rows.inc(num_rows, tags) if num_rows else None
        errors.inc(num_errors, tags) if num_errors else None

    return count
