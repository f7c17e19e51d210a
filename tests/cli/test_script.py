"""A function is found by file or module, and a file's functions travel by value."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import pytest
import typer

from eksml.cli.script import load_function
from eksml.errors import CallError


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loading changes this process as ``python FILE`` would: undo it."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_gives_the_function_fit_unless_another_is_named(tmp_path: Path) -> None:
    file = tmp_path / "two.py"
    file.write_text("def fit(): return 'fit'\ndef other(): return 'other'\n")
    assert load_function(str(file))() == "fit"
    assert load_function(f"{file}:other")() == "other"


def test_a_file_runs_with_its_siblings_but_without_its_main_part(project: Path) -> None:
    function = load_function(str(project / "tiny.py"))
    assert function.__module__ == "tiny"
    assert sys.argv == [str(project / "tiny.py")]
    assert "halves" in sys.modules


def test_functions_and_classes_of_a_file_travel_by_value(tmp_path: Path) -> None:
    file = tmp_path / "lonely.py"
    file.write_text(
        "class Plan:\n    total = 7\n\ndef helper():\n    return Plan().total\n\n"
        "def fit():\n    return helper()\n"
    )
    (tmp_path / "call.pkl").write_bytes(cloudpickle.dumps(load_function(str(file))))
    file.unlink()
    opened = subprocess.run(
        [sys.executable, "-c", "import cloudpickle as c; print(c.load(open('call.pkl', 'rb'))())"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert opened.stdout == "7\n"


def test_a_file_named_like_a_module_that_is_loaded_leaves_that_alone(tmp_path: Path) -> None:
    file = tmp_path / "typer.py"
    file.write_text("def fit(): return 'mine'\n")
    assert load_function(str(file))() == "mine"
    assert sys.modules["typer"] is typer


def test_a_module_is_imported_from_the_present_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert load_function("halves:half")(10) == 5


def test_a_function_that_is_not_there_is_answered_with_those_that_are(project: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"no function 'train'\. It has: Plan, Sum, fit"):
        load_function(f"{project / 'tiny.py'}:train")


@pytest.mark.parametrize(
    ("code", "last_line"),
    [
        ("import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("def fit(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_fails_shows_its_own_traceback(
    tmp_path: Path, code: str, last_line: str
) -> None:
    file = tmp_path / "broken.py"
    file.write_text(f"x = 1\n{code}\n")
    with pytest.raises(CallError) as caught:
        load_function(str(file))
    text = str(caught.value)
    assert last_line in text
    assert f'File "{file}", line 2' in text
    assert "importlib" not in text
    assert text.endswith("cannot be loaded.")
