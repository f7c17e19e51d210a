"""Pydantic's complaints, translated once into ``InvalidSpec``: every problem at once."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import InvalidSpec, Problem

Location = tuple[int | str, ...]
Models = tuple[type[BaseModel], ...]

_PLAIN = {
    "missing": "is missing.",
    "frozen_instance": "a specification is frozen; make a changed one with model_copy(update=…).",
}


class Refused(ValueError):
    """Raised by a validator that found several problems; their paths are relative to its model."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


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

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed, checked like a new one (pydantic's own is not).

        Raises:
            InvalidSpec: with every problem.
        """
        if not update:
            return super().model_copy(deep=deep)
        return type(self)(**(dict(self) | dict(update)))


def invalid_spec(error: ValidationError, model: type[BaseModel]) -> InvalidSpec:
    """All problems of one validation, in the words of the specification."""
    details = error.errors(include_url=False)
    problems = [problem for detail in details for problem in _problems(detail, model)]
    return InvalidSpec(problems, subject=f"the {model.__name__} specification")


def _problems(detail: Any, model: type[BaseModel]) -> Iterator[Problem]:
    location, _ = _walk(detail["loc"], model)
    path = ".".join(str(part) for part in location)
    refused = detail.get("ctx", {}).get("error")
    if isinstance(refused, Refused):
        for problem in refused.problems:
            inner = ".".join(part for part in (path, problem.path) if part)
            yield Problem(inner or model.__name__, problem.message, problem.remedy)
    else:
        yield _problem(detail, location, path or model.__name__, model)


def _problem(detail: Any, location: Location, path: str, model: type[BaseModel]) -> Problem:
    kind: str = detail["type"]
    if kind == "extra_forbidden":
        return Problem(path, "is not a field.", _nearest(detail["loc"], model))
    if kind in _PLAIN:
        return Problem(path, _PLAIN[kind])
    if kind == "union_tag_not_found":
        return Problem(f"{path}.kind", "is missing.", f"Write one of {_tags(detail)}.")
    if kind == "union_tag_invalid":
        told = f"{detail['ctx']['tag']!r} is not a kind."
        return Problem(f"{path}.kind", told, f"Write one of {_tags(detail)}.")
    message = detail["msg"].removeprefix("Value error, ")
    if location:
        message = f"{detail['input']!r:.80}: {message[:1].lower()}{message[1:]}"
    return Problem(path, message if message.endswith(".") else f"{message}.")


def _tags(detail: Any) -> str:
    tags: str = detail["ctx"].get("expected_tags") or "fsx, s3, claim, secret"
    return tags.replace("'", "")


def _nearest(location: Location, model: type[BaseModel]) -> str:
    _, models = _walk(location[:-1], model)
    fields = sorted({field for found in models for field in found.model_fields})
    near = difflib.get_close_matches(str(location[-1]), fields, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"The fields are: {', '.join(fields)}."


def _walk(location: Location, model: type[BaseModel]) -> tuple[Location, Models]:
    """The location as a user would write it, and the models that may stand there.

    Pydantic puts marks of its own into a location: ``[key]``, and the tag of a union.
    """
    path: list[int | str] = []
    models: Models = (model,)
    for part in location:
        if part == "[key]":
            continue
        tagged = tuple(found for found in models if part in _kinds(found))
        if len(models) > 1 and tagged:
            models = tagged
            continue
        path.append(part)
        fields = [found.model_fields[part] for found in models if part in found.model_fields]
        if fields:
            models = tuple(_models_in(fields[0].annotation)) or models
    return tuple(path), models


def _kinds(model: type[BaseModel]) -> Sequence[Any]:
    kind = model.model_fields.get("kind")
    return typing.get_args(kind.annotation) if kind else ()


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
