"""One line for people who wait at a terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType


class Progress:
    """Rewrites one line of stderr; writes nothing when ``shown`` is false."""

    def __init__(self, subject: str, *, shown: bool) -> None:
        self._subject = subject
        self._shown = shown
        self._began = time.monotonic()
        self._written = ""

    def show(self, what: str) -> None:
        """Replace the line's text."""
        text = f"{self._subject}: {what} ({time.monotonic() - self._began:.0f} s)"
        if self._shown and text != self._written:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
            self._written = text

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
