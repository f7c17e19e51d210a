"""Answers of a given form: JSON by a schema, a regular expression, or one of some choices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.errors import Problem

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


@dataclass(frozen=True)
class Form:
    """What an answer must look like; at most one of the fields is given.

    The engine only lets through tokens that keep to it. Still an answer can break it: where it is
    cut at ``max_tokens``, and where a schema says more than grammars can.
    """

    json_schema: dict[str, Any] | None = None
    regex: str | None = None
    choices: tuple[str, ...] | None = None

    def __bool__(self) -> bool:
        return any(given is not None for given in (self.json_schema, self.regex, self.choices))

    def problems(self) -> Iterator[Problem]:
        """What is wrong with the form itself."""
        given = [name for name in ("json_schema", "regex", "choices") if getattr(self, name)]
        if len(given) > 1:
            yield Problem(given[1], f"cannot go with {given[0]}.", "Give one of them.")
        if self.json_schema is not None:
            yield from _schema_problems(self.json_schema)
        if self.regex is not None:
            try:
                re.compile(self.regex)
            except re.error as error:
                yield Problem("regex", f"{self.regex!r:.80} is no regular expression: {error}.")
        if self.choices is not None and (
            len(set(self.choices)) != len(self.choices) or not all(self.choices)
        ):
            yield Problem("choices", "have an empty text or the same twice.", "List each once.")
        if self.choices is not None and len(self.choices) < 2:
            yield Problem("choices", "leave nothing to choose.", "Give two or more.")

    def breach(self, answer: str) -> str | None:
        """How an answer breaks the form, as one sentence; None if it keeps to it."""
        if self.choices is not None and answer not in self.choices:
            return f"The answer {answer!r:.80} is none of the choices."
        if self.regex is not None and not re.fullmatch(self.regex, answer, re.DOTALL):
            return f"The answer {answer!r:.80} does not match {self.regex!r:.80}."
        return None if self.json_schema is None else self._json_breach(answer)

    def _json_breach(self, answer: str) -> str | None:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError) as error:
            return f"The answer is no JSON ({error}): {answer!r:.200}."
        broken = next(_validator(self.json_schema).iter_errors(value), None)
        if broken is None:
            return None
        return f"The answer breaks the schema at {broken.json_path}: {broken.message:.200}."


def schema_of(given: Any) -> Any:
    """A pydantic class as its JSON schema; anything else as it is."""
    from pydantic import BaseModel

    if isinstance(given, type) and issubclass(given, BaseModel):
        return given.model_json_schema()
    return given


def _schema_problems(schema: dict[str, Any]) -> Iterator[Problem]:
    from jsonschema.exceptions import SchemaError

    if not schema:
        yield Problem("json_schema", "is empty: any JSON would do.", "Describe the fields.")
        return
    try:
        type(_validator(schema)).check_schema(schema)
    except SchemaError as error:
        yield Problem("json_schema", f"is no JSON schema: at {error.json_path}, {error.message}.")


def _validator(schema: Any) -> Validator:
    from jsonschema import validators

    return validators.validator_for(schema, default=validators.Draft202012Validator)(schema)
