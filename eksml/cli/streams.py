"""How a stream stands, as ``eksml top`` shows it."""

from __future__ import annotations

from typing import Any

from eksml.cli import output
from eksml.errors import NotFound

_COLUMNS = ("step", "in", "out", "events/s", "lag", "busy", "late", "dead", "state", "on disk")


def status_of(run: Any) -> dict[str, Any]:
    """What a stream's run tells of itself; ``run`` is its place in storage."""
    try:
        found: dict[str, Any] = (run / "status.json").read_json()
    except NotFound:
        return {"steps": {}, "checkpoint": {}, "restarts": 0, "blocked_s": 0.0}
    return found


def show(name: str, state: str, status: dict[str, Any]) -> None:
    """Print it for people."""
    checkpoint = status["checkpoint"]
    told = f"{name}: {state}, {status['restarts']} restarts"
    if checkpoint:
        told += (
            f", checkpoint {checkpoint['epoch']} in {checkpoint['seconds']:.2f} s "
            f"({checkpoint['bytes']:,} bytes, events stopped for {checkpoint['stopped_s']:.3f} s)"
        )
    output.note(told)
    if not status["steps"]:
        output.note("It has not told anything yet.")
        return
    rows = [_row(step, counts) for step, counts in status["steps"].items()]
    output.print_table(_COLUMNS, rows)


def _row(step: str, counts: dict[str, Any]) -> tuple[str, ...]:
    lag_s = counts["lag_s"]
    return (
        step,
        f"{counts['events_in']:,}",
        f"{counts['events_out']:,}",
        f"{counts['per_s']:,.0f}",
        "" if lag_s is None else f"{lag_s:,.1f} s",
        f"{counts['busy_s']:,.1f} s",
        f"{counts['late']:,}",
        f"{counts['dead']:,}",
        _megabytes(counts["state_bytes"]),
        _megabytes(counts["disk_bytes"]),
    )


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size else ""
