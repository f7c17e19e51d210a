"""Writes a table: an epoch's events and its number in one transaction, so that they come once.

The number lies in the table ``eksml_epochs`` of the same database, a row for each writer. A
transaction that finds its epoch there, or a later one, does nothing; an older process that wakes in
the middle waits for the row and then finds it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError, MissingExtra, StorageUnavailable
from eksml.streams.sinks.base import Desk
from eksml.streams.sinks.staging import TIME, StagedWriter

if TYPE_CHECKING:
    import pyarrow as pa

    from eksml.streams.endpoints.postgres import Postgres

_EPOCHS = """
CREATE TABLE IF NOT EXISTS eksml_epochs (writer text PRIMARY KEY, epoch bigint NOT NULL)
"""
_CLAIM = """
INSERT INTO eksml_epochs AS known (writer, epoch) VALUES (%s, %s)
ON CONFLICT (writer) DO UPDATE SET epoch = EXCLUDED.epoch WHERE known.epoch < EXCLUDED.epoch
RETURNING epoch
"""


class PostgresWriter(StagedWriter):
    """One task's end of a table."""

    def __init__(self, sink: Postgres, desk: Desk) -> None:
        super().__init__(desk)
        self._sink = sink

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        await asyncio.to_thread(self._transact, epoch, writer, table)

    def _transact(self, epoch: int, writer: int, table: pa.Table) -> None:
        """All or nothing, and the epoch's number with it.

        Raises:
            StorageUnavailable: The database does not answer.
            CallError: The table does not take the events.
        """
        try:
            import psycopg
        except ImportError as error:
            raise MissingExtra(
                'PostgreSQL needs psycopg: pip install "eksml[postgres]".'
            ) from error
        name = self._desk.name_of(writer)
        try:
            with psycopg.connect(self._sink.dsn) as connection, connection.cursor() as cursor:
                _make_epochs(connection)
                if cursor.execute(_CLAIM, (name, epoch)).fetchone() is not None:
                    self._insert(cursor, table.drop_columns([TIME]))
        except psycopg.OperationalError as error:
            raise StorageUnavailable(f"PostgreSQL, table {self._sink.table!r}: {error}") from error
        except psycopg.Error as error:
            raise CallError(
                f"PostgreSQL does not take the events into {self._sink.table!r}: {error}"
            ) from error

    def _insert(self, cursor: Any, table: pa.Table) -> None:
        from psycopg.sql import SQL, Identifier, Placeholder

        names = table.schema.names
        columns = SQL(", ").join(map(Identifier, names))
        statement = SQL("INSERT INTO {} ({}) VALUES ({})").format(
            Identifier(*self._sink.table.split(".")),
            columns,
            SQL(", ").join(Placeholder() * len(names)),
        )
        if self._sink.key:
            rest = [name for name in names if name not in self._sink.key]
            changes = SQL(", ").join(
                SQL("{} = EXCLUDED.{}").format(Identifier(name), Identifier(name)) for name in rest
            )
            then = SQL("DO UPDATE SET {}").format(changes) if rest else SQL("DO NOTHING")
            keys = SQL(", ").join(map(Identifier, self._sink.key))
            statement += SQL(" ON CONFLICT ({}) {}").format(keys, then)
        rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        cursor.executemany(statement, rows)


def _make_epochs(connection: Any) -> None:
    """Two writers may be the first at once; one of them finds the table made."""
    import psycopg

    try:
        with connection.transaction():
            connection.execute(_EPOCHS)
    except psycopg.errors.UniqueViolation:
        return
