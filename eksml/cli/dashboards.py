"""The command ``eksml dashboards``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from eksml.cli import output
from eksml.cli.app import command
from eksml.errors import InvalidSpec, Problem


@command("dashboards", "eksml dashboards deploy/observe")
def dashboards(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write the files; made if needed.")
    ],
) -> None:
    """Write Grafana dashboards and Prometheus alerts for serving and streams into a folder.

    The JSON files are for Grafana's import, or ConfigMaps with the label of its sidecar;
    alerts.yaml is a PrometheusRule for `kubectl apply`.
    """
    import yaml

    from eksml.observe import dashboards as shown
    from eksml.observe.alerts import prometheus_rule
    from eksml.observe.grafana import to_json

    texts = {
        name: json.dumps(to_json(dashboard), indent=2) + "\n"
        for name, dashboard in shown.ALL.items()
    }
    texts["alerts.yaml"] = yaml.safe_dump(prometheus_rule(), sort_keys=False, width=100)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        told = f"{str(folder)!r} can't be written: {error.strerror}."
        raise InvalidSpec([Problem("DIR", told, "Name a folder.")], "the command") from error
    for name in texts:
        output.note(f"Wrote {folder / name}.")
