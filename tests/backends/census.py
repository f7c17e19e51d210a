"""What is left of a cluster, and patience."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from eksml.backends.local import LocalRunning

REPOSITORY = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def traces(*words: str) -> list[str]:
    """Live processes whose command line or environment names one of ``words``."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            told = [*process.cmdline(), *process.environ().values()]
            if any(word in text for word in words for text in told):
                found.append(f"{process.pid} {' '.join(process.cmdline())[:200]}")
    return found


def in_sessions(leaders: list[int]) -> list[int]:
    """Live processes in the sessions of these leaders."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(pid) in leaders and psutil.Process(pid).status() != "zombie":
                found.append(pid)
    return found


def leaders_of(running: LocalRunning) -> list[int]:
    """The session of each node."""
    return [node.pid for node in running.nodes() if node.pid]


def temp_of(running: LocalRunning) -> Path:
    """The folder that Ray and the keeper write to."""
    return Path(running._temp)


def python(code: str, **kwargs: object) -> subprocess.Popen[str]:
    """A Python process that can import the package as it lies here."""
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-u", "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    )
