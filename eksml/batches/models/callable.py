"""A Python class, function or instance as a model: batches of numpy arrays in, new columns out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, PrivateAttr

from eksml.batches.models.base import Sizing
from eksml.batches.models.batched import Function, LoadedFunction, made
from eksml.batches.models.columns import as_names, missing
from eksml.batches.models.fingerprint import fingerprint
from eksml.cluster.problems import Spec
from eksml.errors import CallError, Problem
from eksml.runs.call import entry_name
from eksml.runs.credentials import check_config
from eksml.runs.pickling import check_picklable

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ROWS_PER_BLOCK = 1024


class CallableModel(Spec):
    """What a user's own Python computes. Made by :func:`callable_model`."""

    target: Any
    """A class, whose instances are made once in each worker; a function; or an instance."""
    columns: tuple[str, ...] | None = None
    """The columns that it is given; all unless said."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """For ``__init__`` of a class, or for each call of a function, by name."""
    batch_rows: int = Field(default=256, ge=1, le=1_000_000)
    """Rows of each call; the last one of a block may have fewer."""
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: {"CPU": 1.0}
    )
    """Of each worker, by Ray's names."""

    _code: str | None = PrivateAttr(None)

    def describe(self) -> dict[str, Any]:
        """What decides on the output: the code and all that it uses, arguments and columns. Not
        batch size and resources, which may differ when a run goes on."""
        if self._code is None:  # weights may be large
            self._code = fingerprint((self.target, self.arguments))
        return {
            "kind": "callable",
            "name": entry_name(self.target),
            "arguments": {name: _readable(value) for name, value in self.arguments.items()},
            "columns": None if self.columns is None else list(self.columns),
            "fingerprint": self._code,
        }

    def check(self, schema: pa.Schema) -> list[Problem]:
        """Columns that are missing, arguments that do not fit, and what cannot travel."""
        problems = list(missing(self.columns or (), schema, "columns"))
        problems += _signature_problems(self.target, self.arguments)
        for check, value in ((check_picklable, self.target), (check_config, self.arguments)):
            try:
                check(value)
            except CallError as error:
                problems.append(Problem("model", str(error)))
        return problems

    def sizing(self) -> Sizing:
        """Two batches keep a worker busy: one is computed while the next is read."""
        rows = max(MIN_ROWS_PER_BLOCK, self.batch_rows)
        return Sizing(dict(self.resources), 2 * self.batch_rows, rows)

    def load(self) -> LoadedFunction:
        """Make the instance.

        Raises:
            InvalidSpec: ``__init__`` raised; the exception is its cause.
        """
        name = entry_name(self.target)
        call, load_s = made(name, self._call)
        return LoadedFunction(call, name, self.columns, self.batch_rows, load_s)

    def _call(self) -> Function:
        if isinstance(self.target, type):
            made: Function = self.target(**self.arguments)
            return made
        if not self.arguments:
            target: Function = self.target
            return target
        return lambda batch: self.target(batch, **self.arguments)


def callable_model(
    target: Any,
    *,
    columns: str | list[str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    batch_rows: int = 256,
    resources: Mapping[str, float] | None = None,
) -> CallableModel:
    """A model of your own: anything that takes a batch and gives new columns.

    >>> def shout(batch):
    ...     return {"loud": [text.upper() for text in batch["text"]]}
    >>> eksml.batch(callable_model(shout, batch_rows=64), "texts/", "loud/")      # doctest: +SKIP

    It gets a dictionary of numpy arrays of one length (see
    :func:`eksml.batches.models.arrays.to_numpy`; they may be read-only) and returns a dictionary of
    arrays or lists, torch tensors or Arrow arrays of that length. A result named like a column of
    the input takes its place. Always return the same names, with the same types: types are found
    anew for each block of rows, where a column of nothing but None has the type null.

    If it raises, the batch is halved until the rows that make it raise stand alone; these become
    errors, the others are computed. So it must not depend on which rows come together.

    Args:
        target: A class (made once in each worker, then called), a function, or an instance, which
            is pickled with all that it holds.
        columns: What it is given; everything unless said, and fewer cost less.
        arguments: For the class's ``__init__``, or for each call of a function, by name.
        batch_rows: Rows of each call.
        resources: Of each worker, by Ray's names; ``{"CPU": 1}`` unless given.

    Raises:
        InvalidSpec: With everything that is wrong.
    """
    return CallableModel(
        target=target,
        columns=as_names(columns),
        arguments=dict(arguments or {}),
        batch_rows=batch_rows,
        resources={"CPU": 1.0} if resources is None else dict(resources),
    )


def _readable(value: Any) -> Any:
    """For the record: as it is if it is JSON, else its type; the fingerprint knows the rest."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _signature_problems(target: Any, arguments: Mapping[str, Any]) -> Iterator[Problem]:
    name = entry_name(target)
    if not callable(target):
        yield Problem("model", f"{target!r:.80} cannot be called.", "Give a class or a function.")
        return
    if isinstance(target, type):
        yield from _call_problem(target, (), arguments, f"{name}(…)")
        if not any("__call__" in vars(kind) for kind in target.__mro__):
            yield Problem("model", f"{name} has no __call__(self, batch).", "Write it.")
        else:
            yield from _call_problem(target.__call__, (None, {}), {}, f"{name}.__call__")
    elif arguments and not inspect.isroutine(target):
        yield Problem("arguments", f"go nowhere: {name} is made already.", "Give its class.")
    else:
        yield from _call_problem(target, ({},), arguments, name)


def _call_problem(
    target: Any, given: tuple[Any, ...], arguments: Mapping[str, Any], name: str
) -> Iterator[Problem]:
    try:
        inspect.signature(target).bind(*given, **arguments)
    except TypeError as error:
        what = f"{name} cannot be called with {', '.join(arguments) or 'one batch'}: {error}."
        yield Problem("arguments" if arguments else "model", what)
    except ValueError:  # some builtins tell no signature
        return
