"""A check, what it finds, and looking at all of them at once within a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]

LIMIT_S = 3.0


@dataclass(frozen=True)
class Finding:
    """What a check found."""

    level: Level
    """``fail``: eksml cannot work. ``warn``: something will not work that not everybody needs."""
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    name: str
    look: Callable[[], Finding]
    unanswered: Level = "fail"
    """How bad it is if ``look`` raises, or does not come back in time."""


@dataclass(frozen=True)
class Answer:
    """A check's name and finding."""

    name: str
    finding: Finding


def look_at_all(checks: Sequence[Check], limit_s: float = LIMIT_S) -> list[Answer]:
    """Every check's finding, in the order given, after at most ``limit_s``.

    Each looks in a thread of its own, which is left behind if it hangs in a library; it ends with
    the process.
    """
    found: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()
    for index, check in enumerate(checks):
        threading.Thread(
            target=lambda at, one: found.put((at, _look(one))), args=(index, check), daemon=True
        ).start()
    deadline = time.monotonic() + limit_s
    findings: dict[int, Finding] = {}
    while len(findings) < len(checks):
        try:
            index, finding = found.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        findings[index] = finding
    return [
        Answer(check.name, findings.get(index) or _late(check, limit_s))
        for index, check in enumerate(checks)
    ]


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except (
        Exception
    ) as error:  # whatever a library raises is this check's finding, not doctor's end
        return Finding(check.unanswered, f"{type(error).__name__}: {error}".splitlines()[0])


def _late(check: Check, limit_s: float) -> Finding:
    return Finding(check.unanswered, f"no answer in {limit_s:g} s", "Is the network reachable?")
