"""The command ``eksml top``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from eksml.cli import options, output
from eksml.cli.app import command
from eksml.errors import NotFound

_PAUSE_S = 2.0
_COLUMNS = ("step", "in", "out", "events/s", "lag", "busy", "late", "dead")


@command("top", "eksml top fraud", "eksml top fraud --once", "eksml top fraud --json | jq .steps")
def top(
    name: options.RunName,
    once: Annotated[bool, typer.Option("--once", help="Show it once and return.")] = False,
    storage: options.Storage = None,
    json: options.Json = False,
) -> None:
    """Watch a stream: events, lag, late and dead letters of each step, and its checkpoints."""
    from eksml.runs import get_run
    from eksml.runs.record import ENDED

    run = get_run(name, storage)
    while True:
        status = _status(run.uri)
        if json:
            output.print_json(status)
            return
        if not once:
            typer.echo("\x1b[2J\x1b[H", nl=False)
        _show(name, run.state, status)
        if once or run.state in ENDED:
            return
        time.sleep(_PAUSE_S)


def _status(run: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = (run / "status.json").read_json()
    except NotFound:
        return {"steps": {}, "checkpoint": {}, "restarts": 0, "blocked_s": 0.0}
    return found


def _show(name: str, state: str, status: dict[str, Any]) -> None:
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
    )
