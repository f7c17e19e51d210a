"""``eksml batch``, as a person and as a machine uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import invoke

from eksml.storage import URI

sys.path.insert(0, str(Path(__file__).parent.parent / "batches"))
from counted import read_output, write_input

BIN = Path(sys.executable).parent
MODEL = """
def square(batch):
    if (batch["n"] == 13).any():
        raise ValueError("13 is a bad number")
    return {"square": batch["n"] ** 2}
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    write_input(URI.parse(tmp_path / "in"), 200)
    return tmp_path


def eksml(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "eksml", *words],
        cwd=folder,
        env={**os.environ, "EKSML_STORAGE": str(folder / "runs"), "EKSML_CLUSTER": ""},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_file_of_python_runs_over_a_folder_and_failed_rows_can_be_tried_again(folder) -> None:
    call = ("batch", "model.py:square", "in", "out", "--name", "squares", "--keep", "n")

    done = eksml(folder, *call, "--json")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["state"], answer["verb"]) == ("succeeded", "batch")
    assert (answer["result"]["rows"], answer["result"]["errors"]) == (199, 1)
    assert read_output(URI.parse(folder / "out")).column_names == ["n", "square"]

    (folder / "model.py").write_text(MODEL.replace("== 13", "== -1"))
    again = eksml(folder, *call, "--retry-errors")

    assert again.returncode == 0, again.stderr
    assert "200 of 200" in again.stdout
    assert read_output(URI.parse(folder / "out"))["n"].to_pylist() == list(range(200))


def test_since_watermark_makes_an_edition_of_a_series(folder) -> None:
    (folder / "model.py").write_text(MODEL.replace("== 13", "== -1"))

    done = eksml(
        *(folder, "batch", "model.py:square", "in", "out", "--name", "nightly"),
        *("--since", "watermark", "--json"),
    )

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["name"], answer["result"]["rows"]) == ("nightly-000001", 200)
    assert len(read_output(URI.parse(folder / "out" / "edition=000001"))) == 200


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model.py", "in", "out"), "is neither FILE.py:name nor module:name"),
        (("model.py:cube", "in", "out"), "It has: square"),
        (("model.py:square", "in", "out", "--no-wait"), "needs --cluster"),
        (("model.py:square", "in", "out", "--retry-errors"), "needs --name"),
        (("model.py:square", "in", "out", "--since", "watermark"), "needs --name"),
        (("model.py:square", "in", "out", "--since", "dawn", "--name", "n"), "'dawn' is not known"),
        (("model.py:square", "in", "out", "--schedule", "@daily"), "let cron make the call"),
        (("model.py:square", "in", "out", "--sampling", "n=2"), "give --prompt"),
        (("model.py:square", "in", "out", "--workers", "many"), "LEAST,MOST"),
        (("model.py:square", "nowhere", "out"), "there is no file at"),
        (("model.py:square", "in", "out", "--keep", "m"), "'m' is no column of the data"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_starts(folder, monkeypatch, words, told) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(
        sys, "path", sys.path[:]
    )  # of which, and of argv, the command makes its own
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setenv("EKSML_STORAGE", str(folder / "runs"))
    monkeypatch.setenv("EKSML_CLUSTER", "")

    done = invoke("batch", *words)

    assert done.exit_code in (1, 2)
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert not (folder / "runs").exists() or not list((folder / "runs").iterdir())
    assert not (folder / "out").exists()
