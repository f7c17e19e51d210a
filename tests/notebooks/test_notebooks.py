"""Every notebook runs from top to bottom in a kernel of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.long

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


def run(notebook: Path) -> list[dict[str, Any]]:
    """Execute a notebook; gives the outputs of all its cells, in order."""
    parsed = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        parsed, timeout=240, kernel_name="python3", resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    return [output for cell in parsed.cells for output in cell.get("outputs", [])]


def shown(outputs: list[dict[str, Any]], kind: str) -> list[str]:
    """What the outputs show as one MIME type, or printed as ``text``."""
    if kind == "text":
        return [output["text"] for output in outputs if output["output_type"] == "stream"]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def test_training_in_a_notebook_shows_progress_table_plot_and_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKSML_STORAGE", str(tmp_path))

    outputs = run(NOTEBOOKS / "train_digits.ipynb")

    html = shown(outputs, "text/html")
    assert any("400" in text and "succeeded" in text for text in html), "the panel or the run"
    assert any("<table" in text and "loss" in text for text in html), "the table of metrics"
    assert len(shown(outputs, "image/png")) == 2, "the digits and the losses"
    assert any("of the digits held out are read right" in text for text in shown(outputs, "text"))


def test_notebooks_are_kept_without_outputs() -> None:
    kept = [
        (path.name, cell["id"])
        for path in NOTEBOOKS.glob("*.ipynb")
        for cell in nbformat.read(path, as_version=4).cells
        if cell.get("outputs") or cell.get("execution_count")
    ]
    assert kept == []
