"""What commands print: results to stdout, everything else to stderr."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "pending": "dim",
    "running": "blue",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
}
"""Colours of words that tell a state, on a terminal."""


def examples(*lines: str) -> str:
    """The end of a command's help; typer leaves a paragraph that begins with backspace alone."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def note(text: str) -> None:
    """Tell people something that is not the result."""
    typer.echo(text, err=True)


def fail(text: str) -> None:
    """Tell an error, in red on a terminal."""
    console(stderr=True).print(text, style="red", markup=False, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a result for machines. NaN and infinity, which JSON lacks, become null."""
    typer.echo(json.dumps(_strict(value), indent=2, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows for people; a cell that is a word of :data:`STYLES` has its colour."""
    from rich.text import Text

    table = [list(columns), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    out = console()
    for number, row in enumerate(table):
        cells = [
            Text(cell.ljust(width), style=STYLES.get(cell, "") if number else "bold")
            for cell, width in zip(row, widths, strict=True)
        ]
        line = Text("  ").join(cells)
        line.rstrip()
        out.print(line, soft_wrap=True)


def print_level(level: str, text: str) -> None:
    """Print a finding for people: its level (``ok``, ``warn``, ``fail``) and what it is about."""
    from rich.text import Text

    line = Text.assemble(Text(level.ljust(4), style=STYLES[level]), f"  {text}")
    console().print(line, soft_wrap=True)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one a line; what is empty is left out."""
    from rich.text import Text

    width = max(map(len, facts), default=0) + 2
    for name, value in facts.items():
        if value:
            line = Text.assemble((name.ljust(width), "bold"), (value, STYLES.get(value, "")))
            console().print(line, soft_wrap=True)


def console(stderr: bool = False) -> Console:
    """Colours where a person looks, plain text elsewhere. Print with ``soft_wrap``: lines into
    pipes and files are not to be folded."""
    from rich.console import Console

    return Console(stderr=stderr)


def age(seconds: float) -> str:
    """A span of time as one short word: ``42s``, ``5m``, ``3h``, ``12d``."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    return value
