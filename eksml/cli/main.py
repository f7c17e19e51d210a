"""The entry point ``eksml``."""

from __future__ import annotations

# Importing a noun adds its commands
from eksml.cli import (
    batch,
    chat,
    clusters,
    dashboards,
    doctor,
    manifests,
    nodes,
    runs,
    serving,
    top,
    training,
)
from eksml.cli.app import app

__all__ = [
    "app",
    "batch",
    "chat",
    "clusters",
    "dashboards",
    "doctor",
    "main",
    "manifests",
    "nodes",
    "runs",
    "serving",
    "top",
    "training",
]


def main() -> None:
    """Run the command in ``sys.argv``; ends the process with its exit code."""
    app(prog_name="eksml")
