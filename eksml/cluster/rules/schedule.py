"""Cron schedules and durations as the operator reads them (robfig/cron v3, Go's durations)."""

from __future__ import annotations

import re

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_DAYS = "sun mon tue wed thu fri sat"
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS.split(), start=1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS.split())}),
)
_NAMED = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
_NUMBER = re.compile(r"[0-9]{1,9}")
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


def schedule_error(schedule: str) -> str:
    """Why ``schedule`` is not one that ever starts a job; empty if it is.

    Five fields, each a list of ``*``, ``n``, ``n-m`` or names, with ``/step``; or a name such as
    ``@hourly``; or ``@every 1h30m``. Sunday is 0, not 7.
    """
    if schedule.startswith("@"):
        return _named_error(schedule)
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        return f"it has {len(fields)} fields, not 5: minute hour day month weekday"
    try:
        allowed = [_values(text, *limits) for text, limits in zip(fields, _FIELDS, strict=True)]
    except ValueError as error:
        return str(error)
    _, _, days, months, weekdays = allowed
    # With both days limited, either will do; else the day must exist in one of the months.
    if len(weekdays) == 7 and not any(
        min(days) <= _LONGEST_MONTH.get(month, 31) for month in months
    ):
        return "no month that it names has such a day"
    return ""


def duration_s(text: str) -> float | None:
    """The seconds of a Go duration such as ``1h30m``; None if it is none. Signs are refused."""
    if not text or _DURATION.sub("", text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


def _named_error(schedule: str) -> str:
    if schedule in _NAMED:
        return ""
    if schedule.startswith("@every "):
        every = duration_s(schedule.removeprefix("@every "))
        return "" if every else "what follows @every is not a duration such as 1h30m"
    return f"it is none of {', '.join(_NAMED)}, @every 1h30m"


def _values(text: str, field: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        values |= _range(part, field, least, most, names)
    return values


def _range(part: str, field: str, least: int, most: int, names: dict[str, int]) -> set[int]:
    span, slash, step_text = part.partition("/")
    low_text, dash, high_text = span.partition("-")
    if low_text in ("*", "?") and not dash:
        low, high = least, most
    else:
        low = _number(low_text, field, names)
        # «n/step» means from n to the end.
        high = _number(high_text, field, names) if dash else most if slash else low
    step = _number(step_text, field, {}) if slash else 1
    if not least <= low <= high <= most or step == 0:
        raise ValueError(f"the {field} {part!r:.40} is not within {least}–{most}")
    return set(range(low, high + 1, step))


def _number(text: str, field: str, names: dict[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r:.40} is not a {field}")
    return int(text)
