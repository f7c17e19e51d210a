"""Sources of columns: which are read, which only decide, and what a read hands over."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr, field_validator

from eksml.batches.blocks import ERROR, FILE, PLACE
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Files, few
from eksml.batches.sources.filters import Filter, columns_of, expression_of, mismatches
from eksml.batches.sources.schemas import check_columns, check_names, unified
from eksml.cluster.problems import Refused
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    import pyarrow as pa


class Selected(Files):
    """A source of rows with columns, some of which may be chosen, and rows too."""

    columns: tuple[str, ...] | None = None
    """Those that are read, in this order; None reads all."""
    filter: Filter = None
    """Conditions on columns, read or not."""

    _types: Any = PrivateAttr(default=None)
    """The columns that are read from files, with the types that all files share. Found by
    ``inventory``, and on the way to other processes with the source."""

    @field_validator("columns", mode="before")
    @classmethod
    def _named(cls, columns: Any) -> Any:
        if columns is None or (isinstance(columns, list | tuple) and columns):
            return columns
        raise Refused(
            [Problem("", f"{columns!r:.80} is no list of columns.", "Name at least one.")]
        )

    def inventory(self) -> Inventory:
        raise NotImplementedError

    def learnt(self) -> str | None:
        """The columns' types, as an Arrow schema in base 64."""
        types = self._types
        return None if types is None else base64.b64encode(types.serialize().to_pybytes()).decode()

    def remember(self, learnt: str | None) -> None:
        """Take the columns' types from an earlier inventory: new files cannot change them."""
        import pyarrow as pa

        if learnt is not None:
            self._types = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(learnt)))

    def types(self) -> pa.Schema:
        """The columns that are read from files. Takes an inventory where none was taken before."""
        if self._types is None:
            self.inventory()
        return self._types

    def choose(
        self,
        schemas: Sequence[tuple[str, pa.Schema]],
        *,
        guessed: bool = False,
        sparse: bool = False,
    ) -> pa.Schema:
        """Keep the columns that have to be read; gives those that a read hands over.

        Args:
            schemas: Of all files, by their names. Only columns that are read have to be alike.
            guessed, sparse: As for ``unified``.

        Raises:
            InvalidSpec: A column that is named does not exist, differs, or cannot be compared.
        """
        import pyarrow as pa

        self._check_names(schemas)
        needed = {*(self.columns or ()), *columns_of(self.filter)} if self.columns else None
        narrow = [
            (file, pa.schema([each for each in schema if needed is None or each.name in needed]))
            for file, schema in schemas
        ]
        types = unified(narrow, guessed=guessed, sparse=sparse)
        if problems := mismatches(self.filter, types):
            raise InvalidSpec(problems, f"the {self.kind} source")
        self._types = types
        return pa.schema([types.field(name) for name in self.columns or types.names])

    def _check_names(self, schemas: Sequence[tuple[str, pa.Schema]]) -> None:
        known = list(dict.fromkeys(name for _, schema in schemas for name in schema.names))
        problems = [
            *check_columns(known, self.columns or (), "columns"),
            *check_columns(known, columns_of(self.filter), "filter"),
            *few(each for file, schema in schemas for each in check_names(file, schema.names)),
        ]
        if problems:
            raise InvalidSpec(problems, f"the {self.kind} source")

    def hand_over(self, table: pa.Table) -> pa.Table:
        """The rows that pass the filter, with the columns that were chosen and eksml's own.

        A row that could not be read cannot be judged, and stays.
        """
        import pyarrow.compute as pc

        if self.filter is not None:
            passes = expression_of(self.filter)
            readable = ERROR not in table.column_names
            table = table.filter(passes if readable else passes | pc.field(ERROR).is_valid())
        if self.columns is None:
            return table
        own = [name for name in (FILE, PLACE, ERROR) if name in table.column_names]
        return table.select([*self.columns, *own])


def marked(
    table: pa.Table, file: str, rows: Any, errors: Sequence[str | None] | None = None
) -> pa.Table:
    """The table with eksml's own columns: file, places (int64), and errors if there can be any."""
    import numpy as np
    import pyarrow as pa

    indices = pa.array(np.zeros(len(rows), np.int32))
    table = table.append_column(FILE, pa.DictionaryArray.from_arrays(indices, [file]))
    table = table.append_column(PLACE, pa.array(rows, pa.int64()))
    if errors is None:
        return table
    return table.append_column(ERROR, pa.array(errors, pa.string()))
