"""Whether a value has the fields and types that its kind has: nothing unknown, nothing missing.

Kinds are written as tables, one kind a line (``pod_fields``, ``ray_fields``, ``serve_fields``)::

    Toleration: key:str operator:|Exists|Equal tolerationSeconds:int
    Container: name:str! env:[EnvVar] resources:ResourceRequirements

``!`` marks a required field. Types: ``str``, ``bool``, ``int`` (64 bits), ``int32``, ``num``,
``quantity``, ``port`` (a number or a name), ``map`` (any mapping), ``any``; ``int>=0`` sets a
least value, ``a|b`` lists words (a leading ``|`` allows the empty one), ``[T]`` is a list,
``{T}`` a mapping from text, and any other word a kind.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from eksml.cluster.rules.field import join
from eksml.cluster.rules.pod_fields import POD_FIELDS
from eksml.cluster.rules.quantity import amount
from eksml.cluster.rules.ray_fields import RAY_FIELDS
from eksml.cluster.rules.serve_fields import SERVE_FIELDS
from eksml.cluster.syntax import nearest
from eksml.errors import Problem

_BITS = {"int": 63, "int32": 31}
_WANTED = {
    "str": "text",
    "bool": "true or false",
    "int": "a whole number",
    "int32": "a whole number of 32 bits",
    "num": "a number",
    "port": "a port: a number or a name",
    "map": "a mapping",
}


@dataclass(frozen=True)
class Kind:
    """The fields of one kind, name to type, and which of them must be there."""

    fields: Mapping[str, str]
    required: frozenset[str]


@cache
def kinds() -> Mapping[str, Kind]:
    """All kinds by name."""
    found: dict[str, Kind] = {}
    text = "\n".join((POD_FIELDS, RAY_FIELDS, SERVE_FIELDS)).replace("\n    ", " ")
    for line in text.splitlines():
        name, _, fields = line.partition(": ")
        pairs = [field.split(":", 1) for field in fields.split()]
        if name:
            found[name] = Kind(
                {field: kind.rstrip("!") for field, kind in pairs},
                frozenset(field for field, kind in pairs if kind.endswith("!")),
            )
    return found


def misshapen(value: Any, kind: str, path: str) -> Iterator[Problem]:
    """Every field of ``value`` that is unknown, missing or of the wrong type.

    Null counts as absent: whether it may be there is not a matter of shape.
    """
    if value is None or kind == "any":
        return
    if kind.startswith("["):
        yield from _list(value, kind[1:-1], path)
    elif kind.startswith("{"):
        yield from _mapping(value, kind[1:-1], path)
    elif "|" in kind:
        yield from _word(value, kind.split("|"), path)
    elif (known := kinds().get(kind)) is not None:
        yield from _fields(value, kind, known, path)
    else:
        yield from _scalar(value, kind, path)


def _list(value: Any, kind: str, path: str) -> Iterator[Problem]:
    if not isinstance(value, list):
        yield _wrong(path, value, "a list")
        return
    for index, item in enumerate(value):
        yield from misshapen(item, kind, join(path, index))


def _mapping(value: Any, kind: str, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong(path, value, "a mapping")
        return
    for key, inner in value.items():
        if isinstance(key, str):
            yield from misshapen(inner, kind, join(path, key))
        else:
            yield Problem(path, f"the key {key!r:.80} is not text.", "Write it in quotes.")


def _word(value: Any, words: list[str], path: str) -> Iterator[Problem]:
    if isinstance(value, str) and value in words:
        return
    offered = ", ".join(word for word in words if word)
    yield Problem(path, f"{value!r:.80} is none of {offered}.", nearest(str(value)[:80], words))


def _fields(value: Any, name: str, kind: Kind, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _wrong(path, value, "a mapping")
        return
    for missing in sorted(kind.required):
        if value.get(missing) is None:
            yield Problem(join(path, missing), "is missing.")
    for key, inner in value.items():
        if not isinstance(key, str):
            yield Problem(path, f"the key {key!r:.80} is not text.")
        elif key in kind.fields:
            yield from misshapen(inner, kind.fields[key], join(path, key))
        else:
            remedy = nearest(key[:80], kind.fields, "Leave it out.")
            yield Problem(join(path, key), f"is not a field of {name}.", remedy)


def _scalar(value: Any, kind: str, path: str) -> Iterator[Problem]:
    kind, _, least = kind.partition(">=")
    if kind == "quantity":
        if amount(value) is None:
            remedy = "Write such as '500m', '4' or '16Gi'; a fraction in quotes."
            yield Problem(path, f"{value!r:.80} is not a quantity.", remedy)
    elif not _is(value, kind):
        yield _wrong(path, value, _WANTED[kind])
    elif least and value < int(least):
        yield Problem(path, f"{value} is less than {least}.")


def _is(value: Any, kind: str) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if kind in _BITS:
        return whole and -(2 ** _BITS[kind]) <= value < 2 ** _BITS[kind]
    if kind == "num":
        return whole or (isinstance(value, float) and math.isfinite(value))
    if kind == "port":
        return whole or isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    return isinstance(value, str if kind == "str" else dict)


def _wrong(path: str, value: Any, wanted: str) -> Problem:
    remedy = ""
    if wanted == "text" and isinstance(value, (bool, int, float)):
        remedy = "Write it in quotes."
    return Problem(path, f"{value!r:.80} is not {wanted}.", remedy)
