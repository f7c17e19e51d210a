"""What the documents show is run, parsed or looked up: they cannot tell what is not so."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from eksml import Cluster
from eksml.cli.main import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(document: str, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    found = BLOCK.findall((ROOT / document).read_text())
    return [text for kind, text in found if kind == language]


def shell_lines() -> list[str]:
    """Every command that a document shows, in blocks and within sentences."""
    found = []
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            found += [line.split("  #")[0].strip() for line in block.splitlines()]
        prose = BLOCK.sub("", (ROOT / document).read_text())
        found += re.findall(r"`((?:eksml|make) [^`]+)`", prose)
    return sorted({line for line in found if line})


def documents_with_python() -> list[str]:
    return [document for document in DOCUMENTS if blocks(document, "python")]


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", documents_with_python())
def test_the_python_of_a_document_runs_from_top_to_bottom(document: str, tmp_path: Path) -> None:
    script = tmp_path / "document.py"
    script.write_text("\n".join(blocks(document, "python")))
    places = {"EKSML_HOME": str(tmp_path / "home"), "EKSML_STORAGE": str(tmp_path / "runs")}

    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, **places},
        capture_output=True,
        text=True,
        timeout=590,
        check=False,
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("eksml ")])
def test_a_command_line_that_is_shown_is_one_that_eksml_takes(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    commands = get_command(app)
    command = commands.commands[name]  # type: ignore[attr-defined]

    context = command.make_context(name, list(arguments))

    assert context.info_name == name


@pytest.mark.parametrize("line", [line for line in shell_lines() if line.startswith("make ")])
def test_a_make_target_that_is_shown_is_there(line: str) -> None:
    target = shlex.split(line)[1]

    assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "text"), [(name, text) for name in DOCUMENTS for text in blocks(name, "yaml")]
)
def test_yaml_that_is_shown_is_a_cluster(document: str, text: str) -> None:
    assert Cluster.from_yaml(text).groups


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (ROOT / document).read_text())
    local = [link for link in links if not link.startswith("https://")]

    assert [link for link in local if not (ROOT / link).exists()] == []


def test_architecture_names_every_room() -> None:
    rooms = {path.name for path in (ROOT / "eksml").iterdir() if (path / "__init__.py").exists()}
    told = set(re.findall(r"\b([a-z_]+)/", (ROOT / "ARCHITECTURE.md").read_text()))

    assert rooms - told == set()
