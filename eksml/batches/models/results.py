"""What a function returned for some rows, checked and put together as new columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from eksml.batches.blocks import INTERNAL
from eksml.batches.models.arrays import to_arrow
from eksml.batches.models.isolation import Isolated, WrongResult
from eksml.errors import Problem, tell

if TYPE_CHECKING:
    import pyarrow as pa


class Results:
    """The results of one function in one worker; remembers its columns for rows that all fail.

    Args:
        name: How messages call the function.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._schema: pa.Schema | None = None

    def table(self, result: Any, rows: int) -> pa.Table:
        """One result as a table.

        Raises:
            WrongResult: It is no dictionary, a column has not one value a row or no Arrow type, or
                the names are others than before. Says what was returned, all problems at once.
        """
        import pyarrow as pa

        if not isinstance(result, Mapping):
            what = f"{self._name} returned a {type(result).__name__} and not a dictionary."
            self._refuse(
                [Problem("model", what, "Return {name: array with a value for each row}.")]
            )
        columns: dict[str, pa.Array] = {}
        problems = list(self._name_problems(list(result)))
        for name, values in result.items():
            try:
                columns[name] = to_arrow(values)
            except (TypeError, ValueError, pa.ArrowException) as error:
                problems.append(Problem("model", f"Column {name!r} of its result: {tell(error)}"))
        problems += [
            Problem(
                "model",
                f"Column {name!r} of its result has {len(array):,} values for {rows:,} rows.",
                "Return one value for each row of the batch; None where there is none.",
            )
            for name, array in columns.items()
            if len(array) != rows
        ]
        if problems:
            self._refuse(problems)
        return pa.table(columns)

    def joined(self, parts: Isolated[pa.Table], rows: int) -> pa.Table:
        """All parts, in order, with nulls in the rows that failed.

        Where parts differ in types, the wider one is taken: a float for integers, anything for
        null.

        Raises:
            WrongResult: Two parts have types that no type holds both of.
        """
        import pyarrow as pa

        tables = [table for _, _, table in parts.results]
        if not tables:
            empty = pa.table({"": pa.nulls(rows)}).select([])
            return empty if self._schema is None else _nulls(self._schema, rows)
        try:
            whole = pa.concat_tables(tables, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            what = f"Its results for some rows do not go with those for others: {tell(error)}"
            self._refuse([Problem("model", what, "Return the same types for every row.")], error)
        self._schema = whole.schema
        if not parts.errors:
            return whole
        places = [row for start, stop, _ in parts.results for row in range(start, stop)]
        found: list[int | None] = [None] * rows
        for index, row in enumerate(places):
            found[row] = index
        return whole.take(pa.array(found, pa.int64()))

    def _name_problems(self, names: list[Any]) -> Iterator[Problem]:
        for name in names:
            if not isinstance(name, str):
                yield Problem("model", f"The name {name!r:.80} of a column is no text.")
            elif name in INTERNAL:
                yield Problem("model", f"The name {name!r} is eksml's own.", "Choose another.")
        if not names:
            yield Problem("model", "Its result has no columns.", "Return at least one.")
        elif self._schema is not None and set(names) != set(self._schema.names):
            before = ", ".join(self._schema.names)
            what = f"It returned the columns {', '.join(map(str, names))}, before: {before}."
            yield Problem("model", what, "Return the same columns for every batch.")

    def _refuse(self, problems: list[Problem], cause: Exception | None = None) -> NoReturn:
        raise WrongResult(problems, f"the result of {self._name}") from cause


def _nulls(schema: pa.Schema, rows: int) -> pa.Table:
    import pyarrow as pa

    return pa.table([pa.nulls(rows, field.type) for field in schema], schema=schema)
