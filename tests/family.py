"""The processes that a test started, directly or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def titled(word: str, family: Iterable[psutil.Process] | None = None) -> list[psutil.Process]:
    """Those of ``family``, by default all descendants of this process, that show ``word``.

    Ray's workers show their actor's class as the first word of their command. A process that
    was killed is a zombie for a moment, and has none.
    """
    found = []
    for process in psutil.Process().children(recursive=True) if family is None else family:
        with contextlib.suppress(psutil.Error):
            if word in " ".join(process.cmdline()):
                found.append(process)
    return found
