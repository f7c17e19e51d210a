"""A table of PostgreSQL as a sink."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from eksml.errors import Problem
from eksml.streams.sinks.base import Desk, Sink, Writer
from eksml.streams.sources.base import Guarantee


@dataclass(frozen=True)
class Postgres(Sink):
    """Each epoch's events in one transaction, together with the number of the epoch."""

    kind: ClassVar[str] = "postgres"
    sink_guarantee: ClassVar[Guarantee] = "exactly-once"
    table: str
    dsn: str
    key: tuple[str, ...] = ()

    def problems(self) -> Iterator[Problem]:
        for name in ("table", "dsn"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                yield Problem(name, f"{value!r:.40} is no text.", 'Write postgres("counts", dsn).')
        if not isinstance(self.key, tuple) or not all(isinstance(k, str) for k in self.key):
            yield Problem("key", f"{self.key!r:.60} are no columns.", 'Write key=("user",).')

    def replaces(self) -> bool:
        return bool(self.key)

    async def writer(self, desk: Desk) -> Writer:
        from eksml.streams.sinks.postgres import PostgresWriter

        return PostgresWriter(self, desk)
