"""A value in a manifest with its path, and what a rule says when it is broken."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from eksml.errors import Problem

_PLAIN_STEP = re.compile(r"[\w-]+")
_Subject = TypeVar("_Subject")


# Not frozen: thousands are made for one manifest, and freezing triples the price.
@dataclass(slots=True)
class Field:
    """A value of plain dicts and lists, and where it lies.

    Reading is total: what is absent or of the wrong type reads as absent, since the types are
    checked once for the whole manifest (``shape``).
    """

    value: Any
    path: str

    def __getitem__(self, key: str) -> Field:
        """The field ``key`` of a mapping; its value is None where there is none."""
        inner = self.value.get(key) if isinstance(self.value, dict) else None
        return Field(inner, join(self.path, key))

    def items(self) -> list[Field]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            return []
        return [Field(item, join(self.path, index)) for index, item in enumerate(self.value)]

    def entries(self) -> dict[str, Field]:
        """The entries of a mapping by key."""
        if not isinstance(self.value, dict):
            return {}
        return {
            key: Field(value, join(self.path, key))
            for key, value in self.value.items()
            if isinstance(key, str) and value is not None
        }

    @property
    def given(self) -> bool:
        """Whether anything is written here."""
        return self.value is not None

    @property
    def filled(self) -> bool:
        """Whether something is written here that is not empty, as Go tests strings and lists."""
        return self.value is not None and self.value not in ("", [], {})

    @property
    def text(self) -> str:
        """The text; empty if there is none."""
        return self.value if isinstance(self.value, str) else ""

    @property
    def whole(self) -> int | None:
        """The whole number, if there is one."""
        is_whole = isinstance(self.value, int) and not isinstance(self.value, bool)
        return self.value if is_whole else None

    @property
    def on(self) -> bool:
        """Whether it is true."""
        return self.value is True

    @property
    def shown(self) -> str:
        """The value for a message, cut if long."""
        return f"{self.value!r:.80}"

    def problem(self, message: str, remedy: str = "") -> Problem:
        """A problem at this path."""
        return Problem(self.path, message, remedy)


def join(path: str, step: str | int) -> str:
    """``path.step``; a step with dots of its own is set in brackets: ``labels[ray.io/group]``."""
    if isinstance(step, str) and not step.isidentifier() and not _PLAIN_STEP.fullmatch(step):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else str(step)


@dataclass(frozen=True)
class Violation(Problem):
    """A problem, and the rule that found it."""

    rule: str = ""
    """The rule's stable name, such as ``rule 7: priority``."""

    def __str__(self) -> str:
        return f"{Problem.__str__(self)} ({self.rule})"


Rule = Callable[[_Subject], Iterator[Violation]]


def rule(
    number: int | None, name: str
) -> Callable[[Callable[[_Subject], Iterator[Problem]]], Rule[_Subject]]:
    """Mark a function as the rule of that number and name: what it yields carries both.

    Numbers are those of KubeRay's rules that no schema enforces; rules about EKS have none.
    """
    title = f"rule {number}: {name}" if number else f"rule: {name}"

    def mark(find: Callable[[_Subject], Iterator[Problem]]) -> Rule[_Subject]:
        @functools.wraps(find)
        def named(subject: _Subject) -> Iterator[Violation]:
            for problem in find(subject):
                yield Violation(problem.path, problem.message, problem.remedy, title)

        return named

    return mark
