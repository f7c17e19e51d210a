"""Help: quick, with examples, and complete."""

from __future__ import annotations

import subprocess
import sys

import pytest
from commandline import invoke

import eksml
from eksml.cli.app import SECTIONS
from eksml.cli.main import app
from eksml.cli.serving import serving

COMMANDS = [name for names in SECTIONS.values() for name in names]
HEAVY = ["ray", "torch", "boto3", "pandas", "kubernetes", "pydantic", "rich", "eksml.training"]

HELP_IN_A_FRESH_PYTHON = f"""
import sys
from eksml.cli.main import main
sys.argv = ["eksml", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code
print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP_IN_A_FRESH_PYTHON], capture_output=True, text=True, check=True
    )
    assert "Usage: eksml" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_lists_every_command_there_is() -> None:
    registered = [info.name for info in (*app.registered_commands, *app.registered_groups)]
    assert sorted(registered) == sorted(COMMANDS)
    shown = invoke("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    shown = invoke(name, "--help")
    assert shown.exit_code == 0
    explained, _, examples = shown.stdout.partition("Examples:\n")
    assert explained.count(".") > 1
    assert f"eksml {name}" in examples


@pytest.mark.parametrize("name", [info.name for info in serving.registered_commands])
def test_every_command_on_serving_explains_itself_with_an_example(name: str) -> None:
    shown = invoke("serve", name, "--help").stdout
    explained, _, examples = shown.partition("Examples:\n")
    assert explained.count(".") > 1
    assert f"eksml serve {name}" in examples


def test_without_arguments_the_command_shows_its_help() -> None:
    assert "Usage: eksml" in invoke().output


def test_the_version_is_that_of_the_package() -> None:
    assert invoke("--version").stdout == f"eksml {eksml.__version__}\n"
