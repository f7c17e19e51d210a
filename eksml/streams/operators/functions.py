"""Users' functions, called so that a poison event harms only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from eksml.errors import CallError, Problem
from eksml.streams.batch import Batch, Event, columns_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Form: TypeAlias = bool | Literal["numpy", "arrow"]
"""How a function gets events: one by one (False), or a micro-batch as ``{name: array}`` of numpy
(True, "numpy") or as a ``pyarrow.RecordBatch`` ("arrow")."""


def function_problems(path: str, function: Any, columns: Any = False) -> Iterator[Problem]:
    """What is wrong with a function that a user gave."""
    if not callable(function):
        yield Problem(path, f"{function!r:.60} is not a function.")
    if columns not in (True, False, "numpy", "arrow"):
        message = f"{columns!r:.40} is no way to give events."
        yield Problem("columns", message, 'Use True, False, "numpy" or "arrow".')


def call(function: Callable[..., Any], batch: Batch, form: Form) -> Any:
    """``function`` of a micro-batch in the wanted form."""
    if form == "arrow":
        return function(batch.columns)
    return function(numpy_columns(batch))


def numpy_columns(batch: Batch) -> dict[str, np.ndarray]:
    """The columns as numpy arrays; nulls become NaN or None."""
    columns = batch.columns
    return {
        name: columns.column(index).to_numpy(zero_copy_only=False)
        for index, name in enumerate(columns.schema.names)
    }


def record_batch(value: Any, num_rows: int) -> pa.RecordBatch:
    """What a columnar function returned, as a record batch of as many events as it was given.

    Raises:
        CallError: It is something else.
    """
    import pyarrow as pa

    if isinstance(value, pa.Table):
        from eksml.streams.batch import single

        value = single(value)
    elif isinstance(value, Mapping):
        arrays = [_array(item, name) for name, item in value.items()]
        value = pa.RecordBatch.from_arrays(arrays, names=list(value))
    elif isinstance(value, list):
        value = columns_of(value)
    if not isinstance(value, pa.RecordBatch):
        raise CallError(f"it returned {type(value).__name__}, not columns: {{name: array}}.")
    if value.num_rows != num_rows:
        raise CallError(
            f"it was given {num_rows} events and returned {value.num_rows}. "
            "A columnar function returns as many; use filter to leave some out."
        )
    return value


def _array(values: Any, name: str) -> pa.Array:
    import pyarrow as pa

    from eksml.streams.batch import array

    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else array(values, name)


def mask_of(value: Any, num_rows: int) -> np.ndarray:
    """What a columnar predicate returned, as booleans.

    Raises:
        CallError: It is something else.
    """
    import numpy as np
    import pyarrow as pa

    if isinstance(value, pa.Array | pa.ChunkedArray):
        value = value.fill_null(False).to_numpy(zero_copy_only=False)
    mask = np.asarray(value)
    if mask.dtype != np.bool_ or mask.shape != (num_rows,):
        raise CallError(
            f"it returned {mask.dtype} of shape {mask.shape} for {num_rows} events; "
            "a columnar filter returns one boolean for each."
        )
    return mask


def event_of(value: Any) -> Event:
    """What a function returned as one event.

    Raises:
        CallError: It is no dictionary.
    """
    if type(value) is dict:
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise CallError(f"it returned {type(value).__name__}; an event is a dictionary.")
