"""The names and words that a serving specification takes, as types of a field."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from eksml.cluster.problems import Refused
from eksml.cluster.syntax import is_subdomain
from eksml.errors import InvalidSpec, Problem
from eksml.storage import URI

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_ROUTE = re.compile(r"/|(/[A-Za-z0-9._~-]+)+")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text) or ".." in text:
        raise ValueError(
            "not a name: use up to 96 letters, digits, '.', '_' and '-', beginning with a letter "
            "or digit and without '..'"
        )
    return text


def _digest(text: str) -> str:
    if not _SHA256.fullmatch(text):
        # The text is not told, as that of other fields is: it may be the key itself
        told = "is not a SHA-256 in 64 lowercase hexadecimal digits."
        raise Refused([Problem("", told, "`eksml serve key NAME` prints a new key and its hash.")])
    return text


def _route(text: str) -> str:
    if not _ROUTE.fullmatch(text) or any(part in (".", "..") for part in text.split("/")):
        raise ValueError("not a route: write '/', or a path such as '/llm' without an end slash")
    return text


def _host(text: str) -> str:
    if not is_subdomain(text):
        raise ValueError("not a host's name: write it alone, such as images.example.com")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise ValueError("not an absolute path of a file on the replica's machine")
    return text


def _place(text: str) -> str:
    try:
        URI.parse(text)
    except InvalidSpec as error:
        problem = error.problems[0]
        raise ValueError(f"{problem.message} {problem.remedy}".rstrip(". ")) from None
    return text


def _range(value: Any) -> Any:
    """``n`` as ``n`` and ranges as ``(min, max)``; a mistake is told once, not for each form."""
    span = (value, value) if isinstance(value, int) else value
    if not isinstance(span, list | tuple) or len(span) != 2:
        raise ValueError("write a number of replicas, or (min, max)")
    if not all(isinstance(count, int) and not isinstance(count, bool) for count in span):
        raise ValueError("replicas are counted in whole numbers")
    least, most = span
    if not 0 <= least <= most or most < 1:
        raise ValueError("write one or more replicas, or (min, max) with 0 ≤ min ≤ max, max ≥ 1")
    return value if isinstance(value, int) else (least, most)


Name = Annotated[str, AfterValidator(_name)]
"""Of a model, an adapter or a tenant: one part of a path and of a URL, as it is."""
Digest = Annotated[str, AfterValidator(_digest)]
"""SHA-256 in lowercase hexadecimal digits."""
Route = Annotated[str, AfterValidator(_route)]
Host = Annotated[str, AfterValidator(_host)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
Place = Annotated[str, AfterValidator(_place)]
"""A folder, local or ``s3://…``."""
Replicas = Annotated[int | tuple[int, int], BeforeValidator(_range)]
"""A number, or (min, max)."""
Filled = Annotated[str, Field(min_length=1)]
"""Text that is not empty."""
