"""Until when a request must be answered."""

from __future__ import annotations

import re

from eksml.serving.gate.errors import Refused

HEADER = b"x-request-timeout-s"

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")


def deadline_of(text: str, longest_s: float) -> float:
    """Seconds that the request has, from its header; at most ``longest_s``, which is the default.

    Raises:
        Refused: 400.
    """
    if not text:
        return longest_s
    if not _SECONDS.fullmatch(text) or float(text) == 0:
        name = HEADER.decode()
        told = f"{name}: {text[:40]!r} is no number of seconds above 0, such as 30 or 0.5."
        raise Refused(400, "invalid_value", told, param=name)
    return min(float(text), longest_s)
