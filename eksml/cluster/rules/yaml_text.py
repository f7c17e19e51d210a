"""YAML that a manifest carries as text, which nobody reads before it is used."""

from __future__ import annotations

from typing import Any

from eksml.cluster.rules.field import Field
from eksml.cluster.yaml import load_yaml
from eksml.errors import InvalidSpec, Problem

Read = tuple[dict[str, Any] | None, list[Problem]]


def read_mapping(field: Field, example: str) -> Read:
    """The mapping that the text of ``field`` holds, or why it holds none."""
    try:
        return load_yaml(field.text, field.path), []
    except InvalidSpec as refused:
        remedy = f"Write such as «{example}»."
        return None, [Problem(field.path, told.message, remedy) for told in refused.problems]
