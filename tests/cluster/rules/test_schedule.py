"""Cron schedules as the operator reads them (robfig/cron v3)."""

from __future__ import annotations

import pytest

from eksml.cluster.rules.schedule import duration_s, schedule_error


@pytest.mark.parametrize(
    "schedule",
    [
        "* * * * *",
        "30 2 * * mon-fri",
        "0 0 1,15 * *",
        "*/15 8-18/2 ? JAN-Mar SUN",
        "5/20 * * * 0-6",
        "0 0 29 2 *",
        "0 0 31 2 1",
        "  0   0 * * *  ",
        "@hourly",
        "@midnight",
        "@every 1h30m",
        "@every 1.5h",
    ],
)
def test_a_schedule_that_starts_jobs(schedule):
    assert schedule_error(schedule) == ""


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "0 fields, not 5"),
        ("0 0 * * * *", "6 fields, not 5"),
        ("60 * * * *", "the minute '60' is not within 0–59"),
        ("* 24 * * *", "the hour '24' is not within 0–23"),
        ("* * 0 * *", "the day of the month '0' is not within 1–31"),
        ("* * * 13 *", "the month '13' is not within 1–12"),
        ("* * * * 7", "the day of the week '7' is not within 0–6"),
        ("5-1 * * * *", "the minute '5-1'"),
        ("*/0 * * * *", "the minute '*/0'"),
        ("a * * * *", "'a' is not a minute"),
        ("* * * * mo", "'mo' is not a day of the week"),
        ("1-2-3 * * * *", "'2-3' is not a minute"),
        ("1/2/3 * * * *", "'2/3' is not a minute"),
        ("-1 * * * *", "'' is not a minute"),
        ("1,,2 * * * *", "'' is not a minute"),
        ("٣ * * * *", "'٣' is not a minute"),
        ("0 0 31 2,4 *", "no month that it names has such a day"),
        ("@reboot", "none of @yearly"),
        ("@every day", "not a duration"),
        ("@every -1h", "not a duration"),
        ("@every 0s", "not a duration"),
    ],
)
def test_a_schedule_that_is_none_or_never_comes(schedule, why):
    assert why in schedule_error(schedule)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5), ("2m0.5s", 120.5)],
)
def test_durations_are_gos(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "1 h", "1d", "1h-5m", "five minutes"])
def test_what_is_no_duration(text):
    assert duration_s(text) is None
