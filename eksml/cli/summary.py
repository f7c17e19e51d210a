"""A run in short: as JSON for machines, as lines for people, and the commands that lead on."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from eksml.cli import output

if TYPE_CHECKING:
    from eksml.runs import Run


def summary(run: Run) -> dict[str, Any]:
    """A run as JSON; these keys are part of every command's answer about a run."""
    from eksml.runs.progress import read_progress

    record, progress = run.record, read_progress(run.uri)
    return {
        "name": run.name,
        "state": run.state,
        "step": progress.step if progress else None,
        "total": progress.total if progress else None,
        "committed_step": progress.committed_step if progress else None,
        "metrics": progress.metrics if progress else {},
        "verb": record.verb,
        "entry": record.entry,
        "cluster": record.cluster,
        "created_s": record.created_s,
        "started_s": record.started_s,
        "ended_s": record.ended_s,
        "attempt": record.attempt,
        "restarts": record.restarts,
        "uri": str(run.uri),
    }


def print_run(run: Run) -> None:
    """One run for people."""
    record, checkpoints = run.record, run.checkpoints()
    steps = ", ".join(str(step) for step, _ in checkpoints)
    state = run.state
    output.print_facts(
        {
            "run": run.name,
            "state": state,
            "why": run.why(),
            "result": json.dumps(run.result()) if state == "succeeded" else "",
            "function": record.entry,
            "config": json.dumps(record.config) if record.config else "",
            "cluster": record.cluster or "",
            "receipt": str(run.receipt()) if record.attempt else "",
            "checkpoints": f"{checkpoints[0][1].parent} ({steps})" if checkpoints else "",
            "kept in": str(run.uri),
        }
    )


def hint(verb: str, name: str, storage: str | None) -> str:
    """The command that does ``verb`` with a run, for people to copy."""
    where = f" --storage {shlex.quote(storage)}" if storage else ""
    return f"eksml {verb} {name}{where}"
