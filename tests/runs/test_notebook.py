"""In a notebook: live progress, the run's own panel, the curve, and functions from cells."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

FOLLOWED = """
import threading, time
from eksml.runs import Run
from eksml.runs.driver import Attempt, create
from eksml.runs.journal import Journal, source_name
from eksml.runs.progress import Progress, write_progress
from eksml.storage import URI

root = URI.parse("runs")
uri = create(root, "digits", verb="train", entry="fit")

def drive():
    with Attempt(uri) as attempt, Journal(uri / "metrics", source_name(1, 0, "rank0")) as metrics:
        for step in range(1, 6):
            metrics.append({"step": step, "loss": 1 / step})
            write_progress(uri, Progress(step=step, total=5, metrics={"loss": 1 / step}))
            time.sleep(0.1)

threading.Thread(target=drive).start()
run = Run(uri)
run.wait();
"""
PACKED = """
from eksml.runs.call import pack, unpack
FACTOR = 3
def fit(config): return config * FACTOR
call = unpack(pack(fit, 14, root))
print(call.function(call.config))
"""


def test_a_run_shows_itself_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    notebook = nbformat.v4.new_notebook()
    sources = [FOLLOWED, "run", "run.plot()", PACKED]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    followed, shown, plotted, packed = (cell.outputs for cell in notebook.cells)
    assert "● succeeded" in followed[0].data["text/html"]
    assert "<polyline" in shown[0].data["text/html"]
    assert plotted[0].data["image/png"]
    assert packed[0].text == "42\n"
