"""One schema for many files, and what is wrong where there is none."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import INTERNAL
from eksml.batches.sources.files import few
from eksml.errors import InvalidSpec, Problem

if TYPE_CHECKING:
    import pyarrow as pa

_RENAME = "Rename it in the file."
_SAME = "Convert the files to one schema, or leave the column out with columns=[…]."


def unified(
    schemas: Sequence[tuple[str, pa.Schema]], *, guessed: bool = False, sparse: bool = False
) -> pa.Schema:
    """One schema for files, given with their names.

    Narrow numbers become wide ones of their sort, and null becomes anything.

    Args:
        guessed: The types are guessed from text: whole numbers may be fractions elsewhere, and a
            column that nobody has seen a value of is text.
        sparse: A file may lack columns.

    Raises:
        InvalidSpec: Naming file, column and both types, for each difference.
    """
    import pyarrow as pa

    fields, problems = dict[str, tuple[Any, str]](), list[Problem]()
    for file, schema in schemas:
        if not sparse:
            problems += _absent(file, schema, schemas[0])
        for field in schema:
            known, first = fields.get(field.name, (field.type, file))
            joined = wider(known, field.type, guessed=guessed)
            if joined is None:
                told = f"the column {field.name!r} is {field.type}, but {known} in {first}."
                problems.append(Problem(file, told, _SAME))
            fields[field.name] = (joined or known, first)
    if problems:
        raise InvalidSpec(few(problems), "the input")
    types = {name: _not_null(type_) if guessed else type_ for name, (type_, _) in fields.items()}
    return pa.schema(list(types.items()))


def wider(one: pa.DataType, other: pa.DataType, *, guessed: bool) -> pa.DataType | None:
    """The type that holds the values of both, or None."""
    import pyarrow as pa

    kinds = {_sort(each) for each in (one, other) if not pa.types.is_null(each)}
    if len(kinds) > 1 and not (guessed and kinds == {"int", "float"}):
        return None
    schemas = [pa.schema([("", each)]) for each in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return None


def plain(schema: pa.Schema) -> pa.Schema:
    """The columns as values: dictionaries and what pandas left in the metadata are a matter of one
    file, and may be different in the next."""
    import pyarrow as pa

    types = pa.types
    return pa.schema(
        [
            (each.name, each.type.value_type if types.is_dictionary(each.type) else each.type)
            for each in schema
        ]
    )


def check_columns(known: Sequence[str], columns: Sequence[str], argument: str) -> list[Problem]:
    """Those of ``columns`` that are not known, each with the nearest name."""
    return [
        Problem(argument, f"there is no column {name!r}.", _nearest(name, known))
        for name in dict.fromkeys(columns)
        if name not in known
    ]


def check_names(file: str, names: Sequence[str]) -> list[Problem]:
    """Columns that no source may have: eksml's own, and the second of two with one name."""
    own = [name for name in INTERNAL if name in names]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    return [
        *(Problem(file, f"has a column {name!r}, a name of eksml's own.", _RENAME) for name in own),
        *(Problem(file, f"has {names.count(name)} columns {name!r}.", _RENAME) for name in twice),
    ]


def _not_null(type_: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_null(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(_not_null(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(each.name, _not_null(each.type)) for each in type_])
    return type_


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}."


def _sort(type_: pa.DataType) -> str:
    """Types of one sort differ in width only."""
    import pyarrow as pa

    if pa.types.is_integer(type_):
        return "int"
    if pa.types.is_floating(type_):
        return "float"
    # «large_string» and «timestamp[us, tz=UTC]» are of the sorts «string» and «timestamp, tz=UTC»
    name = str(type_).split("<")[0].removeprefix("large_")
    zone = f" {type_.tz}" if pa.types.is_timestamp(type_) else ""
    return name.split("[")[0] + zone


def _absent(file: str, schema: pa.Schema, first: tuple[str, pa.Schema]) -> list[Problem]:
    lost = [name for name in first[1].names if name not in schema.names]
    new = [name for name in schema.names if name not in first[1].names]
    return [
        *(Problem(file, f"has no column {name!r}, which {first[0]} has.", _SAME) for name in lost),
        *(Problem(file, f"has a column {name!r}, unlike {first[0]}.", _SAME) for name in new),
    ]
