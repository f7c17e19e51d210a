"""Filters as data: conditions that are and-ed, in lists that are or-ed, as pyarrow writes them.

``[("lang", "=", "en"), ("words", ">", 3)]`` asks for both;
``[[("lang", "=", "en")], [("lang", "=", "de")]]`` for either.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from eksml.cluster.problems import Refused
from eksml.errors import Problem

Operator = Literal["=", "==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Scalar = bool | int | float | str | date
Condition = tuple[str, Operator, Scalar | Sequence[Scalar]]
Conditions = Sequence[Condition] | Sequence[Sequence[Condition]]
"""What a user writes."""

_REMEDY = 'Write [("column", "=", value), …], or a list of such lists for «or».'


def normal(value: Any) -> tuple[tuple[Condition, ...], ...] | None:
    """The filter as a tuple of alternatives; a plain list of conditions is the only one.

    Raises:
        Refused: With every condition that is none.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not value:
        raise Refused([Problem("", f"{value!r:.80} is no filter.", _REMEDY)])
    plain = all(_is_condition(each) for each in value)
    alternatives = [value] if plain else value
    problems = list[Problem]()
    for alternative in alternatives:
        if not isinstance(alternative, list | tuple) or not alternative:
            problems.append(Problem("", f"{alternative!r:.80} is no condition.", _REMEDY))
            continue
        problems += [found for each in alternative if (found := _problem(each))]
    if problems:
        raise Refused(problems)
    return tuple(tuple(_frozen(each) for each in alternative) for alternative in alternatives)


Filter = Annotated[Any, PlainValidator(normal)]
"""The field of a source."""


def columns_of(filter: tuple[tuple[Condition, ...], ...] | None) -> list[str]:
    """The columns that a filter looks at, each once."""
    return list(dict.fromkeys(name for every in filter or () for name, _, _ in every))


def expression_of(filter: Sequence[Sequence[Any]]) -> Any:
    """The filter as pyarrow's expression. A null passes no condition but ``not in``."""
    from pyarrow.parquet import filters_to_expression

    return filters_to_expression([[_open(each) for each in every] for every in filter])


def mismatches(filter: tuple[tuple[Condition, ...], ...] | None, schema: Any) -> list[Problem]:
    """Conditions whose value cannot be compared with its column; unknown columns are left out."""
    import pyarrow as pa

    problems = []
    for name, operator, value in dict.fromkeys(each for every in filter or () for each in every):
        if name not in schema.names:
            continue
        field = schema.field(name)
        try:
            pa.schema([field]).empty_table().filter(expression_of((((name, operator, value),),)))
        except (pa.ArrowException, TypeError, ValueError):
            told = f"{name!r} is {field.type}, which cannot be compared with {value!r:.80}."
            problems.append(Problem("filter", told, "Give a value of the column's type."))
    return problems


def _is_condition(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], str)


def _problem(condition: Any) -> Problem | None:
    if not (_is_condition(condition) and len(condition) == 3):
        return Problem("", f"{condition!r:.80} is no condition.", _REMEDY)
    name, operator, value = condition
    if operator not in typing.get_args(Operator):
        known = ", ".join(typing.get_args(Operator))
        return Problem("", f"{name!r}: {operator!r} is no operator.", f"Use one of {known}.")
    several = operator in ("in", "not in")
    if several and not (isinstance(value, list | tuple | set | frozenset) and value):
        return Problem("", f"{name!r}: {operator!r} needs a list of values, not {value!r:.80}.")
    values = list(value) if several else [value]
    if wrong := [each for each in values if not isinstance(each, typing.get_args(Scalar))]:
        told = f"{name!r}: {wrong[0]!r:.80} is no value to compare with."
        return Problem("", told, "Use a number, text, true or false, or a date or time.")
    return None


def _frozen(condition: Any) -> Condition:
    name, operator, value = condition
    if operator in ("in", "not in"):
        value = tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    return name, operator, value


def _open(condition: Condition) -> Any:
    name, operator, value = condition
    return name, operator, list(value) if isinstance(value, tuple) else value
