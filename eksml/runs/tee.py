"""Copies what a worker prints into the run's logs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from eksml.runs.journal import Journal


class _Tee:
    """A text stream that also gives whole lines to a journal."""

    def __init__(self, stream: TextIO, journal: Journal) -> None:
        self._stream = stream
        self._journal = journal
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._journal.append(line)
        return self._stream.write(text)

    def finish(self) -> None:
        """Give the last line, if it did not end."""
        if self._rest:
            self._journal.append(self._rest)
            self._rest = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def tee(journal: Journal) -> Iterator[None]:
    """Copy standard output and error of this process into ``journal`` while inside."""
    copies = _Tee(sys.stdout, journal), _Tee(sys.stderr, journal)
    with contextlib.redirect_stdout(copies[0]), contextlib.redirect_stderr(copies[1]):
        try:
            yield
        finally:
            for copy in copies:
                copy.finish()
