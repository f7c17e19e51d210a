"""JSON patch (RFC 6902), as much of it as is used: test, add, replace, remove."""

from __future__ import annotations

import copy
from typing import Any


def patched(thing: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The object after all operations; None if a ``test`` fails or a path is missing."""
    result = copy.deepcopy(thing)
    for operation in operations:
        *way, last = [step.replace("~1", "/") for step in operation["path"].split("/")[1:]]
        node: Any = result
        try:
            for step in way:
                node = node[int(step)] if isinstance(node, list) else node[step]
            if not _done(node, last, operation):
                return None
        except (KeyError, IndexError, ValueError):
            return None
    return result


def _done(node: Any, last: str, operation: dict[str, Any]) -> bool:
    key: Any = int(last) if isinstance(node, list) else last
    if operation["op"] == "test":
        return bool(node[key] == operation["value"])
    if operation["op"] == "remove":
        del node[key]
    else:
        node[key] = operation["value"]
    return True
