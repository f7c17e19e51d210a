"""The command line, as a shell runs it and within this process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

EKSML = Path(sys.executable).with_name("eksml")


def eksml(*arguments: str, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    """Run the installed command as a shell does."""
    return subprocess.run(
        [EKSML, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def eksml_json(*arguments: str) -> Any:
    """Run it with ``--json``: stdout holds JSON and nothing else."""
    done = eksml(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def invoke(*arguments: str) -> Result:
    """Run a command in this process, where no process matters."""
    from eksml.cli.main import app

    return CliRunner().invoke(app, arguments, prog_name="eksml")


def invoke_json(*arguments: str) -> Any:
    """The same with ``--json``; for what is asked again and again."""
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)
