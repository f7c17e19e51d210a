"""Rule 15: a RayCronJob."""

from __future__ import annotations

from collections.abc import Iterator
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eksml.cluster.rules.field import Field, rule
from eksml.cluster.rules.schedule import schedule_error
from eksml.errors import Problem


@rule(15, "schedule")
def schedule(cron_job: Field) -> Iterator[Problem]:
    """Rule 15: the schedule is one, holds no time zone, and the time zone is known."""
    field, zone = cron_job["spec"]["schedule"], cron_job["spec"]["timeZone"]
    if "TZ" in field.text:
        yield field.problem(f"{field.shown} holds a time zone.", "Move it to timeZone.")
    elif isinstance(field.value, str) and (wrong := schedule_error(field.text)):
        yield field.problem(f"{field.shown}: {wrong}.", "Write such as «30 2 * * mon-fri».")
    if isinstance(zone.value, str) and not _loads(zone.text):
        yield zone.problem(f"{zone.shown} is not a time zone.", "Write such as Europe/Berlin.")


def _loads(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    # A path out of the database is a ValueError, one of its folders an OSError.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


RULES = (schedule,)
