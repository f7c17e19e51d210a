"""Columns that a model asks for, against those that there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from eksml.errors import Problem

if TYPE_CHECKING:
    import pyarrow as pa


def as_names(columns: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """One name, or several, as a tuple; None stays None."""
    if columns is None or isinstance(columns, str):
        return None if columns is None else (columns,)
    return tuple(columns)


def missing(columns: Iterable[str], schema: pa.Schema, path: str) -> Iterator[Problem]:
    """A problem for each column that ``schema`` lacks, with the nearest name that it has."""
    for name in dict.fromkeys(columns):
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1)
            choices = ", ".join(schema.names) or "none"
            remedy = f"Did you mean {near[0]!r}?" if near else f"The columns are: {choices}."
            yield Problem(path, f"The input has no column {name!r}.", remedy)


def not_numbers(columns: Iterable[str], schema: pa.Schema) -> Iterator[Problem]:
    """A problem for each column from which no tensor can be made."""
    for name in dict.fromkeys(columns):
        if name in schema.names and not _numbers(schema.field(name).type):
            told = f"Column {name!r} holds {schema.field(name).type}; a tensor needs numbers."
            yield Problem("input", told, "Turn it into numbers first, or use a function as model.")


def _numbers(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if hasattr(kind, "storage_type"):
        return _numbers(kind.storage_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _numbers(kind.value_type)
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))
