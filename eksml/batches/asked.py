"""The arguments of ``eksml.batch``, checked: each by itself, against the data, against a run that
goes on."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from eksml.batches.iceberg_table import IcebergTable
from eksml.batches.job import BatchJob
from eksml.batches.models import model_of
from eksml.batches.sources import check_unique, source_of
from eksml.cluster.preflight import Offer
from eksml.errors import InvalidSpec, Problem
from eksml.runs.record import name_problem
from eksml.storage import URI

if TYPE_CHECKING:
    import pyarrow as pa

    from eksml.batches.models.base import Model
    from eksml.batches.sources.base import Inventory, Source


@dataclass(frozen=True)
class Asked:
    """The call's arguments, each right by itself."""

    model: Model
    source: Source
    output: URI
    job: BatchJob
    root: URI
    """The storage for runs."""
    table: IcebergTable | None = None
    """What the output's files are added to at the end."""

    def identity(self) -> dict[str, Any]:
        """What decides the output; a run that goes on must have the same."""
        return {
            "model": self.model.describe(),
            "data": self.source.describe(),
            "output": str(self.output),
            "format": self.job.format,
            "keep": self.job.keep and list(self.job.keep),
            "partition_by": list(self.job.partition_by),
            "table": self.table and self.table.describe(),
        }


def checked(
    model: Any,
    data: Any,
    output: Any,
    name: Any,
    storage: Any,
    table: IcebergTable | None = None,
    **fields: Any,
) -> Asked:
    """The arguments, or all their problems at once."""
    problems = list(_table_problems(table, fields))
    if name is not None and (problem := name_problem(name)):
        problems.append(problem)

    def attempt(path: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except InvalidSpec as error:
            for found in error.problems:
                place = path if found.path == "storage" else found.path  # URI.parse knows no better
                problems.append(Problem(place, found.message, found.remedy))
            return None

    made = (
        attempt("model", lambda: model_of(model)),
        attempt("data", lambda: source_of(str(data) if isinstance(data, URI) else data)),
        attempt("output", lambda: URI.parse(output)),
        attempt("job", lambda: BatchJob(**fields)),
        attempt("storage", lambda: URI.parse(storage)),
    )
    if problems:
        raise InvalidSpec(problems, "eksml.batch")
    return Asked(*made, table)


def inventory_of(asked: Asked) -> Inventory:
    """What there is to read, found fit for the model and the job."""
    inventory = asked.source.inventory()
    problems = [
        *asked.model.check(inventory.schema),
        *_column_problems(asked.job, inventory.schema),
    ]
    if problems:
        raise InvalidSpec(problems, "eksml.batch")
    if asked.job.id_column:
        check_unique(asked.source, inventory, asked.job.id_column)
    return inventory


def placed(asked: Asked, offers: Iterable[Offer]) -> Asked:
    """The same on the devices that the cluster has, where the model runs on several kinds."""
    from eksml.batches.models.llm_spec import LLM

    model = asked.model
    if not isinstance(model, LLM) or model.device is not None:
        return asked
    gpus = any(offer.resources.get("GPU") for offer in offers)
    return replace(asked, model=model.on("gpu" if gpus else "cpu"))


def _table_problems(table: Any, fields: dict[str, Any]) -> Iterator[Problem]:
    if table is None:
        return
    if not isinstance(table, IcebergTable):
        remedy = "Write eksml.batches.iceberg_table('namespace.table')."
        yield Problem("table", f"{table!r:.80} is no table.", remedy)
    if fields.get("format", "parquet") != "parquet":
        yield Problem("table", "takes files of Parquet only.", "Leave format out.")
    if fields.get("partition_by"):
        told = "takes no folders of partitions: their columns are not in the files."
        yield Problem("table", told, "Leave partition_by out.")


def _column_problems(job: BatchJob, schema: pa.Schema) -> Iterator[Problem]:
    asked = {"keep": job.keep or (), "partition_by": job.partition_by}
    if job.id_column:
        asked["id_column"] = (job.id_column,)
    for field, names in asked.items():
        for name in names:
            if name not in schema.names:
                near = difflib.get_close_matches(name, schema.names, n=1)
                hint = f"Did you mean {near[0]!r}?" if near else f"There are {schema.names}."
                yield Problem(field, f"{name!r} is no column of the data.", hint)
    if job.keep is not None:
        for name in job.partition_by:
            if name not in job.keep:
                yield Problem("partition_by", f"{name!r} is not kept.", "Name it in keep, too.")


def check_same(asked: Asked, begun: dict[str, Any], *, mended: bool) -> None:
    """A run goes on as what it was; ``mended``, its model alone may be another one."""
    now = json.loads(json.dumps(asked.identity()))
    problems = [
        Problem(
            field,
            f"differs from what this run began with: {now[field]!r:.200} instead of "
            f"{begun.get(field)!r:.200}.",
            "Choose another name and another output, or go on with what it began with. A model "
            "that was mended for the rows that failed is fine with retry_errors=True.",
        )
        for field in now
        if now[field] != begun.get(field) and not (mended and field == "model")
    ]
    if problems:
        raise InvalidSpec(problems, "a run that goes on")
