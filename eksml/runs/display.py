"""Progress for people: a bar on a terminal, a live panel in a notebook, plain lines elsewhere."""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from eksml.runs.progress import Progress
from eksml.runs.record import RunRecord, State

if TYPE_CHECKING:
    from rich.progress import TaskID

LINE_S = 10.0
"""Seconds between plain lines."""


@dataclass(frozen=True)
class View:
    """A run as it stands at one moment."""

    record: RunRecord
    state: State
    progress: Progress | None

    def line(self) -> str:
        """One plain line: state, step, metrics, speed, time left."""
        progress = self.progress
        if progress is None:
            return f"{self.record.name}: {self.state}"
        total = f"/{progress.total}" if progress.total else ""
        parts = [f"{self.record.name}: {self.state}", f"{progress.unit} {progress.step}{total}"]
        parts += [f"{key} {number(value)}" for key, value in shown_metrics(progress)]
        if progress.rate:
            parts.append(progress.rate)
        if progress.seconds_left is not None and self.state == "running":
            parts.append(f"{clock(progress.seconds_left)} left")
        if progress.committed_step is not None:
            parts.append(f"committed {progress.committed_step}")
        return "  ".join(parts)


class Display(Protocol):
    """Shows views one after another; a context manager that leaves the last one standing."""

    def show(self, view: View) -> None:
        """Show the present state, cheaply enough for several times a second."""

    def __enter__(self) -> Display: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None: ...


def display_for(name: str, wanted: bool) -> Display:
    """The display that fits where this process runs."""
    if not wanted:
        return Silent()
    if in_notebook():
        return Panel()
    if sys.stderr.isatty():
        return Bar(name)
    return Lines()


class Silent:
    """Shows nothing."""

    def show(self, view: View) -> None:
        """Nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *ending: object) -> None:
        pass


class Lines(Silent):
    """A line to stderr every ten seconds and at each change of state: for logs and pipes."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._shown_s = 0.0

    def show(self, view: View) -> None:
        """Print a line if it is time for one."""
        due = time.monotonic() - self._shown_s >= LINE_S
        if view.state == self._state and not due:
            return
        print(view.line(), file=sys.stderr, flush=True)
        self._state, self._shown_s = view.state, time.monotonic()


class Bar(Silent):
    """A progress bar on stderr."""

    def __init__(self, name: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[name]}[/] {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[details]}"),
            console=Console(stderr=True),
        )
        self._task: TaskID = self._bar.add_task("pending", total=None, name=name, details="")

    def show(self, view: View) -> None:
        """Move the bar."""
        progress = view.progress or Progress(phase="")
        phase = progress.phase if view.state == "running" and progress.phase else view.state
        details = [f"{key} {number(value)}" for key, value in shown_metrics(progress)]
        if progress.rate:
            details.append(progress.rate)
        if progress.seconds_left is not None and view.state == "running":
            details.append(f"{clock(progress.seconds_left)} left")
        self._bar.update(
            self._task,
            description=phase,
            completed=progress.step,
            total=progress.total,
            details="  ".join(details),
        )

    def __enter__(self) -> Bar:
        self._bar.start()
        return self

    def __exit__(self, *ending: object) -> None:
        self._bar.stop()


class Panel(Silent):
    """A panel in a notebook's output that is replaced as the run goes on."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._losses: list[tuple[int, float]] = []

    def show(self, view: View) -> None:
        """Replace the panel."""
        from eksml.runs.notebook import panel_html

        shell: Any = importlib.import_module("IPython.display")
        html = shell.HTML(panel_html(view, self._curve(view)))
        if self._handle is None:
            self._handle = shell.display(html, display_id=True)
        else:
            self._handle.update(html)

    def _curve(self, view: View) -> list[tuple[int, float]]:
        progress = view.progress
        if progress is not None and isinstance(progress.metrics.get("loss"), (int, float)):
            point = (progress.step, float(progress.metrics["loss"]))
            if not self._losses or self._losses[-1][0] != point[0]:
                self._losses.append(point)
        return self._losses


def shown_metrics(progress: Progress, limit: int = 4) -> list[tuple[str, Any]]:
    """The metrics that have room on a line: ``loss`` first, then as they were logged."""
    items = [(key, value) for key, value in progress.metrics.items() if not isinstance(value, dict)]
    return sorted(items, key=lambda item: item[0] != "loss")[:limit]


def number(value: object) -> str:
    """A number with four significant digits; other things as they are."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
