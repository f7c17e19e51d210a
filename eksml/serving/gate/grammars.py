"""Bounds on what a request wants its answer to look like, which vLLM compiles for it.

The compiler (xgrammar) runs in native code beside the engine's steps and cannot be stopped there:
what would take it long, or nest too deep for it, is refused before it is given any of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from eksml.errors import Problem
from eksml.serving.gate.patterns import pattern_fault

LONGEST_SCHEMA = 65_536
"""Characters of a JSON schema, a list of choices or a grammar. 10,000 choices take 0.9 s."""
MOST_FIELDS = 512
"""Properties of a schema in sum: 200 compile in 0.3 s, 1,000 in 12 s."""
DEEPEST = 64
"""Objects and lists in each other; a schema in a schema takes two or three."""
MOST_SIGNS = 128
"""Signs of repetition in a grammar; see ``patterns`` for what they cost."""
MOST_TOOLS = 128

_GUIDED = ("json", "regex", "choice", "grammar", "decoding_backend", "whitespace_pattern")
_SIGN = re.compile(r"[*+?]|\{(\d+)(?:,(\d*))?\}")
_PATTERNS = ("regex", "whitespace_pattern")
_TEXTS = ("grammar", "structural_tag")


def grammar_problems(asked: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with ``structured_outputs``, ``response_format`` and ``tools`` of a request."""
    for name in _GUIDED:
        if asked.get(f"guided_{name}") is not None:
            remedy = "Write structured_outputs instead, or response_format."
            yield Problem(f"guided_{name}", "is no longer known to vLLM.", remedy)
    if (wanted := asked.get("structured_outputs")) is not None:
        yield from _wanted("structured_outputs", wanted)
    if (form := asked.get("response_format")) is not None:
        yield from _object("response_format", form)
    if (tools := asked.get("tools")) is not None:
        yield from _tools(tools)


def _wanted(path: str, wanted: Any) -> Iterator[Problem]:
    if not isinstance(wanted, dict):
        yield Problem(path, "is not an object.")
        return
    for name, value in wanted.items():
        place = f"{path}.{name}"
        if name in _PATTERNS and value is not None:
            yield from _pattern(place, value)
        elif name in _TEXTS and isinstance(value, str):
            yield from _text(place, value)
        elif name == "json" and isinstance(value, str):
            yield from _schema_text(place, value)
        elif isinstance(value, list | dict):
            yield from _object(place, value)


def _tools(tools: Any) -> Iterator[Problem]:
    if not isinstance(tools, list):
        yield Problem("tools", "is not a list.")
    elif len(tools) > MOST_TOOLS:
        yield Problem("tools", f"holds {len(tools):,}, over {MOST_TOOLS}.")
    else:
        yield from _object("tools", tools)


def _pattern(path: str, pattern: Any) -> Iterator[Problem]:
    if not isinstance(pattern, str):
        yield Problem(path, "is not a text.")
    elif fault := pattern_fault(pattern):
        yield Problem(path, f"{fault}.", "Use a simpler pattern.")


def _text(path: str, text: str) -> Iterator[Problem]:
    """A grammar or a structural tag as text."""
    if len(text) > LONGEST_SCHEMA:
        yield Problem(path, f"has {len(text):,} characters, over {LONGEST_SCHEMA:,}.")
    elif path.endswith("structural_tag"):
        yield from _schema_text(path, text)
    elif sum(1 for _ in _SIGN.finditer(text)) > MOST_SIGNS:
        yield Problem(path, f"has over {MOST_SIGNS} signs of repetition.", "Use a simpler grammar.")
    elif any(_counts_too_far(match) for match in _SIGN.finditer(text)):
        yield Problem(path, "counts a repetition beyond 999.", "Use a smaller count, or `*`.")


def _counts_too_far(match: re.Match[str]) -> bool:
    return any(len(number.lstrip("0")) > 3 for number in match.groups("") if number)


def _schema_text(path: str, text: str) -> Iterator[Problem]:
    if len(text) > LONGEST_SCHEMA:
        yield Problem(path, f"has {len(text):,} characters, over {LONGEST_SCHEMA:,}.")
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        yield Problem(path, "is not JSON.")
        return
    yield from _object(path, value)


def _object(path: str, value: Any) -> Iterator[Problem]:
    """A schema, or something that holds schemas."""
    if not isinstance(value, dict | list):
        yield Problem(path, "is not an object.")
        return
    walk = _Walk(path)
    yield from walk.of(path, value, DEEPEST)
    if walk.num_fields > MOST_FIELDS:
        yield Problem(path, f"describes {walk.num_fields:,} properties, over {MOST_FIELDS}.")
    if walk.size > LONGEST_SCHEMA:
        yield Problem(path, f"has over {LONGEST_SCHEMA:,} characters.", "Use a smaller schema.")


class _Walk:
    """Goes through a schema and adds up what it is made of."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.num_fields = 0
        self.size = 0

    def of(self, path: str, value: Any, deepest: int) -> Iterator[Problem]:
        if not deepest:
            yield Problem(self.path, f"is nested over {DEEPEST} deep.")
        elif isinstance(value, dict):
            yield from self._dict(path, value, deepest)
        elif isinstance(value, list):
            self.size += len(value)
            for inner in value:
                if self._is_over():
                    return
                yield from self.of(path, inner, deepest - 1)
        else:
            self.size += len(value) if isinstance(value, str) else 8

    def _is_over(self) -> bool:
        """Whether looking further is of no use."""
        return self.size > LONGEST_SCHEMA

    def _dict(self, path: str, value: dict[str, Any], deepest: int) -> Iterator[Problem]:
        for name, inner in value.items():
            if self._is_over():
                return
            self.size += len(name) + 2
            if name == "pattern" and isinstance(inner, str):
                yield from _pattern(f"{path}.pattern", inner)
            elif name in ("properties", "patternProperties") and isinstance(inner, dict):
                self.num_fields += len(inner)
                if name == "patternProperties":
                    for pattern in inner:
                        yield from _pattern(f"{path}.{name}", pattern)
            yield from self.of(path, inner, deepest - 1)
