"""Commands on runs: runs, show, logs, metrics, cancel."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from eksml.cli import options, output
from eksml.cli.app import command
from eksml.cli.summary import hint, print_run, summary

_READERS = 16
_ROWS = 20


@command("runs", "eksml runs", "eksml runs --storage s3://bucket/runs --json")
def runs(storage: options.Storage = None, json: options.Json = False) -> None:
    """List the runs in a storage, newest first."""
    from concurrent.futures import ThreadPoolExecutor

    from eksml.runs import list_runs

    with ThreadPoolExecutor(_READERS) as pool:
        found = list(pool.map(summary, list_runs(storage)))
    if json:
        output.print_json(found)
    elif not found:
        output.note("No runs yet. Start one with `eksml train FILE.py`.")
    else:
        columns = ("name", "state", "step", "loss", "age", "cluster")
        output.print_table(columns, [_row(run) for run in found])


@command("show", "eksml show digits", "eksml show digits --json | jq .receipt.kept_share")
def show(
    name: options.RunName, storage: options.Storage = None, json: options.Json = False
) -> None:
    """Show one run: its state and why, its receipt and checkpoints."""
    from dataclasses import asdict

    from eksml.runs import get_run

    run = get_run(name, storage)
    if not json:
        print_run(run)
        if (error := run.record.error) is not None:
            typer.echo(f"\n{error.traceback}")
        return
    record = run.record
    output.print_json(
        summary(run)
        | {
            "why": run.why(),
            "config": record.config,
            "error": record.error.model_dump() if record.error else None,
            "versions": record.versions.model_dump(),
            "receipt": asdict(run.receipt()),
            "checkpoints": [
                {"step": step, "uri": str(folder)} for step, folder in run.checkpoints()
            ],
        }
    )


@command("logs", "eksml logs digits", "eksml logs digits -f")
def logs(
    name: options.RunName,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run ends.")
    ] = False,
    storage: options.Storage = None,
) -> None:
    """Print what a run's workers printed."""
    from eksml.runs import get_run

    run = get_run(name, storage)
    try:
        for line in run.logs(follow=follow):
            typer.echo(line)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"The run goes on; see it again with `{hint('logs', name, storage)} -f`."
        ) from None


@command("metrics", "eksml metrics digits", "eksml metrics digits --json > digits.json")
def metrics(
    name: options.RunName,
    last: Annotated[
        int | None,
        typer.Option(min=1, metavar="ROWS", help=f"So many.  [{_ROWS}; all with --json]"),
    ] = None,
    storage: options.Storage = None,
    json: options.Json = False,
) -> None:
    """Print what a run logged, a row a step."""
    from eksml.runs import get_run
    from eksml.runs.display import number
    from eksml.runs.tail import metric_rows, read

    # Not Run.metrics(): a table fills up with NaN, and needs pandas (0.5 s)
    rows = metric_rows(read(get_run(name, storage).uri / "metrics"))
    if json:
        output.print_json(rows[-last:] if last else rows)
    elif not rows:
        output.note(f"The run {name} has logged nothing yet.")
    else:
        columns = list(dict.fromkeys(key for row in rows for key in row if key != "time_s"))
        shown = [[number(row.get(key, "")) for key in columns] for row in rows[-(last or _ROWS) :]]
        output.print_table(columns, shown)


@command("cancel", "eksml cancel digits", "eksml cancel digits --no-wait")
def cancel(
    name: options.RunName,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Ask, and return before it has stopped.")
    ] = False,
    storage: options.Storage = None,
    json: options.Json = False,
) -> None:
    """Stop a run at a checkpoint. `eksml train --name NAME` goes on from there."""
    from eksml.runs import get_run

    run = get_run(name, storage)
    run.cancel(wait=not no_wait)
    if json:
        output.print_json(summary(run))
    else:
        typer.echo(run.why())


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    from eksml.runs.display import number

    step = "" if run["step"] is None else str(run["step"])
    total = f"/{run['total']}" if run["total"] else ""
    loss = run["metrics"].get("loss", "")
    age = output.age(time.time() - run["created_s"])
    return run["name"], run["state"], step + total, number(loss), age, run["cluster"] or ""
