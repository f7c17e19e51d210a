"""Quick restarts: the first worker of a run on a node leaves a copy of itself, taken when its
imports were done and before it did anything else; the workers that replace killed ones are forked
from that copy, instead of importing Ray and torch for seconds again.

It hangs on a public field of Ray's runtime environment, ``py_executable``: :mod:`.launcher` takes
the place of the interpreter, and asks the copy (:mod:`.template`) for a fork. Whatever goes wrong
there, the worker starts as it would without.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_ACCELERATORS = {"GPU", "TPU", "HPU", "NPU", "neuron_cores"}
_OTHER_INTERPRETERS = {"py_executable", "pip", "uv", "conda", "container", "image_uri"}
_LAUNCHER = Path(__file__).with_name("launcher.py")


def runtime_env(
    attempt: str, resources: Iterable[str], surrounding: Iterable[str]
) -> dict[str, Any]:
    """What to add to the workers' runtime environment; nothing where standby does not apply.

    It does not apply off Linux; to workers with accelerators, whose drivers do not survive a fork;
    and where something else chooses the interpreter.

    Args:
        attempt: Names one attempt of one run. Copies serve only the attempt that they are from, so
            that a later one sees code that was changed between.
        resources: Names of what a worker asks Ray for.
        surrounding: Names of the fields that are set in the runtime environment around it.
    """
    paths = f"{sys.executable}{_LAUNCHER}"
    if (
        not hasattr(os, "pidfd_open")
        or _ACCELERATORS & set(resources)
        or _OTHER_INTERPRETERS & set(surrounding)
        or not all(letter.isalnum() or letter in "/._-+" for letter in paths)
    ):
        return {}
    return {"py_executable": _command(), "env_vars": {"EKSML_STANDBY": attempt}}


def _command() -> str:
    """Ray gives it to a shell. A node that keeps Python or eksml elsewhere starts as usual."""
    python, launcher = sys.executable, _LAUNCHER
    return f"$([ -x {python} -a -f {launcher} ] && echo {python} -I -S {launcher} || echo python3)"
