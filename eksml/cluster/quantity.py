"""Amounts of memory, written as Kubernetes writes them: ``512Mi``, ``4Gi``, ``1.5G``, or bytes."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {
    "": 1,
    **{letter: 1000**power for power, letter in enumerate("kMGT", start=1)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("KMGT", start=1)},
}
_QUANTITY = re.compile(rf"(\d+(?:\.\d+)?)({'|'.join(unit for unit in _UNITS if unit)})?")


def parse_bytes(value: Any) -> Any:
    """Bytes of a quantity; whatever is not a quantity raises ``ValueError``."""
    if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())):
        value = int(float(match[1]) * _UNITS[match[2] or ""])
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError("not an amount of memory; write bytes, or such as 512Mi or 4Gi")
    return value


def format_bytes(value: int) -> str | int:
    """The shortest exact way to write it: ``4Gi`` rather than 4294967296."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes), PlainSerializer(format_bytes)]
