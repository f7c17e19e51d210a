"""A run as HTML for notebooks: state, progress, last metrics and a small curve of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from eksml.runs.display import View, clock, number, shown_metrics

Points = Sequence[tuple[int, float]]

COLOURS = {
    "pending": "#888",
    "running": "#1f6feb",
    "succeeded": "#1a7f37",
    "failed": "#cf222e",
    "cancelled": "#9a6700",
    "interrupted": "#9a6700",
}
WIDTH, HEIGHT, MAX_POINTS = 240, 48, 240


def run_html(view: View, rows: Sequence[Mapping[str, Any]]) -> str:
    """The panel of a run, its curve from the metrics' rows."""
    points = [
        (row["step"], float(row["loss"]))
        for row in rows
        if isinstance(row.get("loss"), (int, float))
    ]
    return panel_html(view, points)


def panel_html(view: View, points: Points) -> str:
    """The panel of a run."""
    colour = COLOURS[view.state]
    name, state = escape(view.record.name), escape(view.state)
    lines = [
        f'<b>{name}</b> <span style="color:{colour}">● {state}</span>',
        _bar(view, colour),
        escape("  ·  ".join(_facts(view))),
        sparkline(points),
    ]
    if view.record.error is not None:
        message = f"{view.record.error.type}: {view.record.error.message}"
        lines.append(f'<span style="color:{colour}">{escape(message)}</span>')
    body = "".join(f"<div>{line}</div>" for line in lines if line)
    return f'<div style="font-family:sans-serif;line-height:1.6">{body}</div>'


def sparkline(points: Points) -> str:
    """A small curve as inline SVG; empty for fewer than two finite points."""
    finite = [(step, value) for step, value in points if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    stride = math.ceil(len(finite) / MAX_POINTS)
    kept = [*finite[:-1:stride], finite[-1]]
    steps, values = [step for step, _ in kept], [value for _, value in kept]
    low, span = min(values), (max(values) - min(values)) or 1.0
    first, width = steps[0], (steps[-1] - steps[0]) or 1
    path = " ".join(
        f"{(step - first) / width * WIDTH:.1f},{HEIGHT - (value - low) / span * HEIGHT:.1f}"
        for step, value in kept
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT + 4}" viewBox="0 -2 {WIDTH} {HEIGHT + 4}" '
        f'role="img" aria-label="loss"><polyline points="{path}" fill="none" '
        'stroke="#1f6feb" stroke-width="1.5"/></svg>'
    )


def _bar(view: View, colour: str) -> str:
    progress = view.progress
    if progress is None or not progress.total:
        return ""
    share = min(1.0, progress.step / progress.total)
    return (
        '<div style="background:#8883;width:240px;height:6px;border-radius:3px">'
        f'<div style="background:{colour};width:{share * 240:.0f}px;height:6px;'
        'border-radius:3px"></div></div>'
    )


def _facts(view: View) -> list[str]:
    progress = view.progress
    if progress is None:
        return []
    total = f" of {progress.total}" if progress.total else ""
    facts = [f"{progress.unit} {progress.step}{total}"]
    facts += [f"{key} {number(value)}" for key, value in shown_metrics(progress)]
    if progress.rate:
        facts.append(progress.rate)
    if view.state == "running" and progress.seconds_left is not None:
        facts.append(f"{clock(progress.seconds_left)} left")
    return facts
