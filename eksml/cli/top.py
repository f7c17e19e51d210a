"""The command ``eksml top``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from eksml.cli import options, output, streams
from eksml.cli.app import command

if TYPE_CHECKING:
    from eksml.serving.top import Row

_PAUSE_S = 2.0
_COLUMNS = (
    *("replica", "model", "version", "running", "waiting", "req/s", "429/s", "err/s"),
    *("ttft p50", "p99", "token", "tok/s", "kv"),
)


@command(
    "top",
    "eksml top http://127.0.0.1:8000",
    "eksml top fraud",
    "eksml top fraud --once",
    "eksml top fraud --json | jq .steps",
)
def top(
    name: Annotated[
        str, typer.Argument(metavar="URL|NAME", help="A model's address, or a stream's run.")
    ],
    once: Annotated[bool, typer.Option("--once", help="Show it once and return.")] = False,
    storage: options.Storage = None,
    json: options.Json = False,
) -> None:
    """Watch a model that is served, or a stream.

    Of a model: requests, refusals, errors, time to the first token and between tokens, tokens a
    second and KV cache of each replica. Of a stream: events, lag, late and dead letters of each
    step, and its checkpoints.
    """
    if "://" in name:
        _watch_model(name, once, json)
    else:
        _watch_stream(name, storage, once, json)


def _watch_model(url: str, once: bool, json: bool) -> None:
    from eksml.serving.top import Watch, totals

    watch = Watch(url)
    watch.look()
    while True:
        time.sleep(1.0 if once or json else _PAUSE_S)
        rows = watch.look()
        if json:
            output.print_json({"replicas": [asdict(row) for row in rows], "total": totals(rows)})
            return
        if not once:
            _clear()
        _show_model(url, rows)
        if once:
            return


def _show_model(url: str, rows: list[Row]) -> None:
    from eksml.serving.top import totals

    total = totals(rows)
    output.note(
        f"{url}: {len(rows)} replica{'s' if len(rows) != 1 else ''}, "
        f"{total['requests_per_s']:,.1f} requests/s, {total['tokens_per_s']:,.0f} tokens/s"
    )
    output.print_table(_COLUMNS, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.replica,
        row.model,
        row.version,
        str(row.running),
        str(row.waiting),
        f"{row.requests_per_s:,.1f}",
        f"{row.refused_per_s:,.1f}",
        f"{row.errors_per_s:,.1f}",
        _milliseconds(row.ttft_p50_s),
        _milliseconds(row.ttft_p99_s),
        _milliseconds(row.token_p50_s),
        f"{row.tokens_per_s:,.0f}",
        "" if row.kv_use is None else f"{row.kv_use:.0%}",
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:,.0f} ms"


def _watch_stream(name: str, storage: str | None, once: bool, json: bool) -> None:
    from eksml.runs import get_run
    from eksml.runs.record import ENDED

    run = get_run(name, storage)
    while True:
        status = streams.status_of(run.uri)
        if json:
            output.print_json(status)
            return
        if not once:
            _clear()
        streams.show(name, run.state, status)
        if once or run.state in ENDED:
            return
        time.sleep(_PAUSE_S)


def _clear() -> None:
    typer.echo("\x1b[2J\x1b[H", nl=False)
