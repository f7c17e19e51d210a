"""How long to wait before a request is sent again."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping

FIRST_S = 0.5
LONGEST_S = 60.0
LONGEST_ASKED_S = 600.0
"""The longest that a server can make this one wait."""


def delay_s(tries: int, chance: float) -> float:
    """Seconds before the next try: they double, and differ from row to row.

    Args:
        tries: How many have failed, at least one.
        chance: Between 0 and 1, drawn anew for each call.
    """
    whole: float = min(LONGEST_S, FIRST_S * 2.0 ** min(tries - 1, 16))
    return whole * (0.5 + chance / 2)


def retry_after_s(headers: Mapping[str, str], now_s: float | None = None) -> float | None:
    """What the server asks for: ``Retry-After`` in seconds or as a date (RFC 9110, 10.2.3).

    Args:
        headers: Of the answer; looked up by lower-case names.
        now_s: Seconds since the epoch; the present time unless given.
    """
    text = headers.get("retry-after")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        date = email.utils.parsedate_tz(text)
        if date is None:
            return None
        seconds = email.utils.mktime_tz(date) - (time.time() if now_s is None else now_s)
    if not seconds >= 0:  # the past, and what is no number
        return 0.0
    return min(seconds, LONGEST_ASKED_S)
