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
