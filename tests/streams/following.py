"""A run of a stream or of ``on_event``, seen from outside: its workers, its results, its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import family


def results(run: Any) -> list[Any]:
    """What ``on_event`` has made of each message."""
    found = [s.uri for s in (run.uri / "requests").list(recursive=True)]
    return [uri.read_json() for uri in found if uri.name == "result.json"]


def workers() -> list[int]:
    """Ids of the processes of ``on_event``. (vLLM's are called ``VLLM::Worker``.)"""
    return [process.pid for process in family.titled("ray::Worker")]


def wait_until(condition: Callable[[], object], run: Any, timeout_s: float = 90) -> None:
    """As long as the run goes on, and no longer."""
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert run.state in ("pending", "running"), run.why()
        assert time.monotonic() < end_s, run.why()
        time.sleep(0.05)
