"""Lines as rows: fast where all can be read, and where not, each bad line is a row of its own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from eksml.batches.sources.lines import Lines
from eksml.batches.sources.reading import first_line
from eksml.batches.sources.schemas import wider
from eksml.batches.sources.selected import marked

if TYPE_CHECKING:
    import pyarrow as pa


class Unreadable(ValueError):
    """Some of these lines cannot be read."""


def table_of(
    file: str, lines: Lines, types: pa.Schema, parse: Callable[[Lines], pa.Table]
) -> pa.Table:
    """One row for each line, with eksml's columns; nulls and a reason where it cannot be read.

    Args:
        parse: Gives the table of ``types`` for lines, or raises ``Unreadable`` or pyarrow's errors.
    """
    import pyarrow as pa

    tables, errors = [types.empty_table()], list[str | None]()
    for table, error in _parsed(lines, types, parse):
        tables.append(table)
        errors += [error] * table.num_rows
    table = pa.concat_tables(tables)
    if len(tables) > 64:
        table = table.combine_chunks()
    return marked(table, file, lines.places, errors)


def schema_of(lines: Lines, guess: Callable[[Lines], pa.Schema]) -> pa.Schema:
    """The columns of lines of which some may be unreadable; the first type of a column counts.

    Raises:
        Unreadable: None can be read, with the first one's reason.
    """
    import pyarrow as pa

    types, reason = dict[str, Any](), "it has no line with anything in it."
    for found in _guessed(lines, guess):
        if isinstance(found, str):
            reason = reason if types else found
            continue
        for field in found:
            known = types.get(field.name, field.type)
            types[field.name] = wider(known, field.type, guessed=True) or known
    if not types:
        raise Unreadable(reason)
    return pa.schema([(name, as_text(type_)) for name, type_ in types.items()])


def as_text(type_: pa.DataType) -> pa.DataType:
    """The type with dates and times left as the text that they are in the file: whether all of
    them look like dates shows only at the end of the last file."""
    import pyarrow as pa

    if pa.types.is_temporal(type_):
        return pa.string()
    if pa.types.is_list(type_):
        return pa.list_(as_text(type_.value_type))
    if pa.types.is_struct(type_):
        return pa.struct([(each.name, as_text(each.type)) for each in type_])
    return type_


def reason_of(error: Exception) -> str:
    """Why a line cannot be read, in one sentence."""
    return re.sub(r" in row \d+|Row #\d+: |(CSV|JSON) (parse error: )?", "", first_line(error))


def _parsed(
    lines: Lines, types: pa.Schema, parse: Callable[[Lines], pa.Table]
) -> Iterator[tuple[pa.Table, str | None]]:
    """Halves what cannot be read until the bad lines stand alone."""
    import pyarrow as pa

    if not len(lines):
        return
    try:
        table = parse(lines)
        if table.num_rows != len(lines):
            raise Unreadable(f"It holds {table.num_rows} rows in one line.")
        yield table, None
    except (Unreadable, pa.ArrowException) as error:
        if len(lines) == 1:
            nulls = [pa.nulls(1, each.type) for each in types]
            yield pa.Table.from_arrays(nulls, schema=types), reason_of(error)
            return
        middle = len(lines) // 2
        yield from _parsed(lines.part(0, middle), types, parse)
        yield from _parsed(lines.part(middle, len(lines)), types, parse)


def _guessed(lines: Lines, guess: Callable[[Lines], pa.Schema]) -> Iterator[pa.Schema | str]:
    import pyarrow as pa

    if not len(lines):
        return
    try:
        yield guess(lines)
    except (Unreadable, pa.ArrowException) as error:
        if len(lines) == 1:
            yield reason_of(error)
            return
        middle = len(lines) // 2
        yield from _guessed(lines.part(0, middle), guess)
        yield from _guessed(lines.part(middle, len(lines)), guess)
