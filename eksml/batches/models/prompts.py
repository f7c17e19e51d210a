"""What a model is asked for each row: a template, a function of the row, a column of messages."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from eksml.batches.blocks import INTERNAL
from eksml.errors import Problem, tell

if TYPE_CHECKING:
    import pyarrow as pa

Message = dict[str, Any]
"""``{"role": "user", "content": "…"}``; where there is a picture, content is a list of parts."""
Ask = str | list[Message]
"""One prompt: text, or the messages of a conversation."""

ROLES = ("system", "developer", "user", "assistant", "tool")


@dataclass(frozen=True)
class Unaskable:
    """A row that no prompt can be made of."""

    reason: str
    """One sentence."""


class Prompts(Protocol):
    """This is the whole surface; one implementation for each way to say what is asked."""

    def columns(self) -> Sequence[str]:
        """Columns that it needs and knows of."""

    def of(self, table: pa.Table) -> list[Ask | Unaskable]:
        """The prompt of each row, in order."""


class _Part(NamedTuple):
    literal: str
    column: str | None
    spec: str
    conversion: str | None


@dataclass(frozen=True)
class Template:
    """``"Summarise: {text}"``: braces hold a column's name, written as it is, dots included."""

    text: str

    def columns(self) -> list[str]:
        """The columns named in braces, each once."""
        return list(dict.fromkeys(part.column for part in self._parts() if part.column is not None))

    def problems(self, path: str, *, pictures: bool = False) -> Iterator[Problem]:
        """What is wrong with the template itself. With pictures, all rows may be asked the same."""
        try:
            parts = self._parts()
        except ValueError as error:
            told = f"{self.text!r:.80} is no template: {error}."
            yield Problem(path, told, "Write a literal brace twice: {{ or }}.")
            return
        if any(part.column == "" for part in parts):
            yield Problem(path, "{} names no column.", "Write the column's name inside.")
        elif not pictures and not any(part.column for part in parts):
            told = f"{self.text!r:.80} names no column, so that every row would be asked the same."
            yield Problem(path, told, "Put a column's name in braces: {text}.")

    def of(self, table: pa.Table) -> list[Ask | Unaskable]:
        """Each row's values put into the template; a null makes a row unaskable."""
        columns = {name: table.column(name).to_pylist() for name in self.columns()}
        parts = self._parts()
        return [self._fill(parts, columns, row) for row in range(table.num_rows)]

    def _parts(self) -> list[_Part]:
        parsed = string.Formatter().parse(self.text)
        return [
            _Part(literal, column, spec or "", conversion)
            for literal, column, spec, conversion in parsed
        ]

    def _fill(
        self, parts: list[_Part], columns: Mapping[str, list[Any]], row: int
    ) -> Ask | Unaskable:
        made = []
        for part in parts:
            made.append(part.literal)
            if part.column is None:
                continue
            value = columns[part.column][row]
            if value is None:
                return Unaskable(f"Column {part.column!r}, which the prompt names, is null.")
            try:
                made.append(_formatted(value, part))
            except (TypeError, ValueError) as error:
                return Unaskable(f"{value!r:.80} in column {part.column!r}: {error}.")
        return "".join(made)


@dataclass(frozen=True)
class FromFunction:
    """A user's function: a row as a dictionary of all its columns to text or messages."""

    function: Callable[[dict[str, Any]], Any]

    def columns(self) -> list[str]:
        """None: what it looks at only it knows."""
        return []

    def of(self, table: pa.Table) -> list[Ask | Unaskable]:
        """What it returns for each row; what it raises makes that row unaskable."""
        names = [name for name in table.column_names if name not in INTERNAL]
        return [self._call(row) for row in table.select(names).to_pylist()]

    def _call(self, row: dict[str, Any]) -> Ask | Unaskable:
        try:
            made = self.function(row)
        except Exception as error:  # whatever the function of a user raises
            return Unaskable(f"The prompt function raised {tell(error)}.")
        return made if isinstance(made, str) else _messages(made)


@dataclass(frozen=True)
class FromMessages:
    """A column of conversations: lists of structs with role and content, or that as JSON text."""

    column: str

    def columns(self) -> list[str]:
        """The one column."""
        return [self.column]

    def of(self, table: pa.Table) -> list[Ask | Unaskable]:
        """The conversation of each row; what is none makes that row unaskable."""
        return [self._read(value) for value in table.column(self.column).to_pylist()]

    def _read(self, value: Any) -> Ask | Unaskable:
        if value is None:
            return Unaskable(f"Column {self.column!r}, which holds the messages, is null.")
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                return Unaskable(f"Column {self.column!r} is no JSON list of messages: {error}.")
        return _messages(value)


def with_picture(messages: list[Message], picture: Any) -> list[Message] | Unaskable:
    """The conversation, the picture in front of what the user says last."""
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    if not places:
        return Unaskable("The messages have none of the user's, to which the picture would belong.")
    said = messages[places[-1]]
    parts = [
        {"type": "image_pil", "image_pil": picture},
        {"type": "text", "text": said["content"]},
    ]
    return [*messages[: places[-1]], {**said, "content": parts}, *messages[places[-1] + 1 :]]


def _formatted(value: Any, part: _Part) -> str:
    converted = string.Formatter().convert_field(value, part.conversion)
    return format(converted, part.spec)


def _messages(value: Any) -> Ask | Unaskable:
    """Messages of text only: what a row says of images or addresses to load is not followed."""
    if not isinstance(value, list) or not value:
        return Unaskable(f"{value!r:.80} is neither text nor a list of messages.")
    for message in value:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            what = f"{message!r:.80} is no message with one of the roles {', '.join(ROLES)}."
            return Unaskable(what)
        if not isinstance(message.get("content"), str):
            return Unaskable(f"The message {message!r:.80} has no content that is text.")
    return [{"role": message["role"], "content": message["content"]} for message in value]
