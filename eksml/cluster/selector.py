"""Ray's label selectors: ``value``, ``!value``, ``in(a,b)``, ``!in(a,b)``."""

from __future__ import annotations

from collections.abc import Mapping


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether a node with ``labels`` satisfies every condition of ``selector``."""
    return all(_holds(condition, labels.get(key)) for key, condition in selector.items())


def _holds(condition: str, value: str | None) -> bool:
    # As in Ray, a node without the label satisfies a negated condition.
    wanted = condition.strip()
    negated = wanted.startswith("!")
    wanted = wanted.removeprefix("!")
    allowed = {wanted}
    if wanted.startswith("in(") and wanted.endswith(")"):
        allowed = {item.strip() for item in wanted[3:-1].split(",")}
    return (value in allowed) != negated
