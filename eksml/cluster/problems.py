"""Pydantic's complaints, translated once into ``InvalidSpec``: every problem at once."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import InvalidSpec, Problem

Location = tuple[int | str, ...]

_PLAIN = {
    "missing": "is missing.",
    "frozen_instance": "a specification is frozen; make a changed one with model_copy(update=…).",
}


class Spec(BaseModel):
    """A frozen, checked description: unknown fields are refused, all problems are told at once."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    if not TYPE_CHECKING:

        def __init__(self, /, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise invalid_spec(error, type(self)) from None

        # Pydantic's own mark for «this is the plain constructor»: without it, nested models are
        # built one by one and the first broken one would hide the problems of the others.
        __init__.__pydantic_base_init__ = True


def invalid_spec(error: ValidationError, model: type[BaseModel]) -> InvalidSpec:
    """All problems of one validation, in the words of the specification."""
    problems = [_problem(detail, model) for detail in error.errors(include_url=False)]
    return InvalidSpec(problems, subject=f"the {model.__name__} specification")


def _problem(detail: Any, model: type[BaseModel]) -> Problem:
    location: Location = tuple(part for part in detail["loc"] if part != "[key]")
    path = ".".join(str(part) for part in location) or model.__name__
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        return Problem(path, "is not a field.", _nearest(str(location[-1]), location, model))
    if kind in _PLAIN:
        return Problem(path, _PLAIN[kind])
    message = detail["msg"].removeprefix("Value error, ")
    if location:
        message = f"{detail['input']!r:.80}: {message[:1].lower()}{message[1:]}"
    return Problem(path, message if message.endswith(".") else f"{message}.")


def _nearest(name: str, location: Location, model: type[BaseModel]) -> str:
    fields = sorted(_model_at(location[:-1], model).model_fields)
    near = difflib.get_close_matches(name, fields, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"The fields are: {', '.join(fields)}."


def _model_at(location: Location, model: type[BaseModel]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments: Sequence[Any] = typing.get_args(annotation)
    found = (_model_in(argument) for argument in arguments)
    return next((inner for inner in found if inner), None)
