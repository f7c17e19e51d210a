"""Rule 17: null is not absence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eksml.cluster.rules.field import Field, join, rule
from eksml.errors import Problem


@rule(17, "nulls")
def nulls(manifest: Field) -> Iterator[Problem]:
    """Rule 17: nothing is null: server-side apply refuses it, though a plain create takes it."""
    yield from _nulls(manifest.value, manifest.path)


def _nulls(value: Any, path: str) -> Iterator[Problem]:
    if value is None:
        yield Problem(path, "is null.", "Leave it out (strip_none does).")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nulls(inner, join(path, key if isinstance(key, str) else repr(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nulls(item, join(path, index))


def strip_none(value: Any) -> Any:
    """``value`` without entries and elements that are None, at any depth, as plain dicts and lists.

    What is empty stays: ``emptyDir: {}`` means something.
    """
    if isinstance(value, Mapping):
        return {key: strip_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (list, tuple)):
        return [strip_none(item) for item in value if item is not None]
    return value
