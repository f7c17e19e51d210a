"""The reading end of journals: everything at once, what is new since the last look, a table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from eksml.errors import Damaged, NotFound
from eksml.runs.journal import split_chunk
from eksml.storage import URI


class Entry(NamedTuple):
    """One record and the source that wrote it."""

    source: str
    record: dict[str, Any]


class Tail:
    """Reads a journal folder as it grows; each call of :meth:`new` gives what came since.

    Order is kept within a source, not between sources. Only chunks that grew are read again.
    """

    def __init__(self, folder: URI) -> None:
        self.folder = folder
        self._seen: dict[str, int] = {}

    def new(self) -> list[Entry]:
        """Entries that were not given before, by source, oldest first within a source.

        Raises:
            Damaged: A line is no JSON object; names the object and the line.
        """
        found: list[Entry] = []
        for stat in sorted(self.folder.list(), key=lambda stat: stat.uri.name):
            seen = self._seen.get(stat.uri.name, 0)
            if stat.size <= seen:
                continue
            try:
                data = bytes(stat.uri.read_bytes())
            except NotFound:
                continue
            self._seen[stat.uri.name] = len(data)
            source, _ = split_chunk(stat.uri.name)
            found += parse(stat.uri, source, data, seen)
        return found


def read(folder: URI) -> list[Entry]:
    """Every entry of every source, sources in order of their names."""
    return Tail(folder).new()


def metric_rows(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """One row a step, ordered by step.

    A restarted run logs some steps again: the latest source wins, its row replaces the older
    one. Within one source, later values of a step are added to its row.
    """
    rows: dict[int, tuple[str, dict[str, Any]]] = {}
    for source, record in entries:
        step = record.get("step")
        if not isinstance(step, int):
            continue
        owner, row = rows.get(step, ("", {}))
        if source > owner:
            rows[step] = (source, dict(record))
        elif source == owner:
            row.update(record)
    return [rows[step][1] for step in sorted(rows)]


def text_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Log lines in order of their time, across sources."""
    logged = (entry for entry in entries if "text" in entry.record)
    for entry in sorted(logged, key=lambda entry: entry.record.get("time_s", 0.0)):
        yield str(entry.record["text"])


def parse(uri: URI, source: str, data: bytes, start: int) -> Iterator[Entry]:
    number = data.count(b"\n", 0, start)
    for line in data[start:].splitlines():
        number += 1
        try:
            record = json.loads(line)
        except ValueError as error:
            raise Damaged(f"{uri} line {number} is not JSON: {error}") from error
        if not isinstance(record, dict):
            raise Damaged(f"{uri} line {number} is not a JSON object.")
        yield Entry(source, record)
