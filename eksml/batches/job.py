"""What ``eksml.batch`` was asked to do, beside its model, its data and its output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from eksml.cluster.problems import Spec

MAX_WORKERS = 100_000


def _bounds(value: Any) -> Any:
    """Least and most, of a number or a pair."""
    least, most = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    if value is None:
        return None
    for number in (least, most):
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError("is neither a number of workers nor (least, most)")
    if not 1 <= least <= most <= MAX_WORKERS:
        raise ValueError("is not a positive number of workers, or a least above its most")
    return least, most


class BatchJob(Spec):
    """How a batch run works, checked as a whole before anything starts."""

    workers: Annotated[tuple[int, int] | None, BeforeValidator(_bounds)] = None
    """Processes that hold the model each, least and most; one number for both. None: from one to
    as many as the cluster can hold, as the work needs them."""
    resources: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Of each worker, by Ray's names; None: what the model says."""
    format: Literal["parquet", "jsonl"] = "parquet"
    """Of the output's files."""
    keep: tuple[str, ...] | None = None
    """Input columns that the output has too; None: all."""
    partition_by: tuple[str, ...] = ()
    """Input columns whose values become folders of the output: ``lang=en/part-000001.parquet``."""
    rows_per_file: int | None = Field(default=None, ge=1)
    """Rows of one output file, which is also what is committed at once; None: from the input's
    size, the model and the number of workers."""
    max_error_share: float = Field(default=0.1, ge=0, le=1)
    """Share of failed rows above which the run stops (asked once 100 rows are done, and at the
    end). 1: never."""
    max_failures: int = Field(default=3, ge=1)
    """How often the same rows may take their worker down with them before they are errors."""
    id_column: str | None = None
    """A column whose values must be unique, checked before anything starts. Not needed: rows are
    known by file and place."""
    deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after the start of an attempt at which it stops."""
    budget_node_hours: float | None = Field(default=None, gt=0)
    """Node-hours, over all attempts, after which the run stops."""
