"""What computes: the description of a model, and the model loaded in a worker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from eksml.errors import Problem

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Sizing:
    """What a worker of this model takes, and how it is fed, unless the caller says otherwise."""

    resources: dict[str, float]
    """Of each worker, by Ray's names: ``{"CPU": 1, "GPU": 1}``."""
    rows_in_flight: int
    """Rows that keep one worker busy; more than that is read ahead, less leaves it idle."""
    min_rows_per_block: int
    """Rows below which a block costs more to handle than to compute."""
    one_per_node: bool = False
    """Whether a worker uses all cores of its node, however few CPUs it asks for."""
    max_workers: int | None = None
    """More workers would do no more, unless the caller says so: one is enough to wait for a
    server."""


@dataclass
class Outcome:
    """What became of the rows of one table."""

    columns: pa.Table
    """New columns, a row for each row that was given, in the same order; nulls where it failed."""
    errors: dict[int, str] = field(default_factory=dict)
    """Row number in the given table → one sentence on why it failed."""
    lengths: dict[str, list[int]] = field(default_factory=dict)
    """For the report: one number a row that succeeded, by name: ``tokens_in``, ``tokens_out``."""


class Model(Protocol):
    """A description: frozen, pickles, has loaded nothing."""

    def describe(self) -> dict[str, Any]:
        """Itself as JSON. Two models that describe themselves alike compute alike."""

    def check(self, schema: pa.Schema) -> list[Problem]:
        """What is wrong with it on this machine and for rows of this schema, before anything
        starts: missing columns (named, with the nearest right name), missing files, a context
        longer than the model's."""

    def sizing(self) -> Sizing:
        """What a worker takes. Pure: asks no hardware."""

    def load(self) -> Loaded:
        """Load it, in the worker, once.

        Raises:
            EngineDied: What computes was killed while it started; it may be tried again.
            EksmlError: It cannot be loaded.
        """


class Loaded(Protocol):
    """A model in a worker's process, owned by that worker."""

    threads: int
    """Calls of ``compute`` that may be under way at once: 1 for what computes in the call."""

    def compute(self, table: pa.Table) -> Outcome:
        """Compute all rows of a table; a row that fails is an error in the outcome, not raised.

        Raises:
            EngineDied: The process that computes is gone. The worker ends, and Ray starts another.
            InvalidSpec: The model as a whole is wrong for these rows; the run stops.
        """

    def busy(self) -> dict[str, float]:
        """For the report, since loading: ``load_s``, ``busy_s`` (seconds in which something was
        being computed) and, where it means something, ``occupancy`` (mean share of the engine's
        slots that were taken while busy)."""

    def close(self) -> None:
        """Let go of everything, processes included. Twice is fine."""
