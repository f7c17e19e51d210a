"""State of keys for which there is no room in memory: in an embedded store on the local disk."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from eksml.errors import StorageUnavailable
from eksml.streams.operators.key_text import Key, key_of, text_of
from eksml.streams.operators.mapped import mapped

if TYPE_CHECKING:
    import pyarrow as pa

_CACHE_KIB = 32 << 10
_AT_ONCE = 1_000
"""Keys that are named in one statement."""
_PART_BYTES = 32 << 20
"""Of a table that goes to a checkpoint, about."""
_LATEST = 2**63 - 1

# Nothing is ever read from the file after a crash
_TABLES = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -{_CACHE_KIB};
CREATE TABLE cold (key TEXT PRIMARY KEY, keygroup INTEGER, value TEXT, due INTEGER);
CREATE INDEX by_due ON cold (keygroup, due) WHERE due IS NOT NULL;
CREATE TABLE fresh (key TEXT PRIMARY KEY) WITHOUT ROWID;
"""


_SELECT = """
SELECT key, keygroup, value, EXISTS (SELECT 1 FROM fresh WHERE fresh.key = cold.key) FROM cold
"""


class Row(NamedTuple):
    """What is kept of a key."""

    key: Key
    group: int
    value: str
    """JSON."""
    due: int | None = None
    """When event time makes something of it, in microseconds; not told when it is given out."""
    fresh: bool = False
    """No checkpoint has it yet."""


class Part(NamedTuple):
    """Some of the rows, as a checkpoint takes them."""

    keys: list[Key]
    groups: pa.ChunkedArray
    values: pa.ChunkedArray


class ColdKeys:
    """Rows by key, in SQLite. A key is either here or in memory, never in both.

    The file lies where TMPDIR says and has no name: it is gone when the process ends, however it
    ends, since what counts is in the checkpoints. To be used by one thread at a time.

    Raises, in every method:
        StorageUnavailable: The disk is full, or broken.
    """

    def __init__(self) -> None:
        with _told():
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._db.executescript(_TABLES)
        self.num_keys = 0
        self._next: dict[int, int] = {}
        """Of each group, a moment before which nothing is due."""

    def put(self, rows: Iterable[Row]) -> None:
        """Keep rows, of keys that are not here."""
        # In the order of the table, which takes neighbours faster
        ordered = sorted((text_of(row.key), row) for row in rows)
        with _told():
            self._db.execute("BEGIN")
            self._db.executemany(
                "INSERT INTO cold VALUES (?, ?, ?, ?)",
                ((text, row.group, row.value, _bounded(row.due)) for text, row in ordered),
            )
            fresh = ((text,) for text, row in ordered if row.fresh)
            self._db.executemany("INSERT OR IGNORE INTO fresh VALUES (?)", fresh)
            self._db.execute("COMMIT")
        self.num_keys += len(ordered)
        for _, row in ordered:
            if row.due is not None:
                self._next[row.group] = min(row.due, self._next.get(row.group, row.due))

    def take(self, keys: Sequence[Key]) -> list[Row]:
        """Give out those of ``keys`` that are here: they are here no more."""
        by_text = {text_of(key): key for key in keys}
        found: list[Row] = []
        for part in _parts(list(by_text)):
            with _told():
                rows = self._db.execute(f"{_SELECT} WHERE key IN ({_marks(part)})", part).fetchall()
            found += [
                Row(by_text[text], group, value, None, bool(fresh))
                for text, group, value, fresh in rows
            ]
            self._delete([text for text, *_ in rows])
        return found

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget these keys, if they are here."""
        for part in _parts([text_of(key) for key in keys]):
            self._delete(part)

    def _delete(self, texts: Sequence[str]) -> None:
        if texts:
            with _told():
                gone = self._db.execute(f"DELETE FROM cold WHERE key IN ({_marks(texts)})", texts)
            self.num_keys -= gone.rowcount

    def groups_due(self, moment: int) -> list[int]:
        """Groups that may have keys that are due at ``moment``."""
        return sorted(group for group, due in self._next.items() if due <= moment)

    def take_due(self, group: int, moment: int) -> list[Row]:
        """Give out the keys of a group that are due at ``moment``: they are here no more."""
        where = "keygroup = ? AND due <= ?"
        with _told():
            rows = self._db.execute(f"{_SELECT} WHERE {where}", (group, moment)).fetchall()
            self._db.execute(f"DELETE FROM cold WHERE {where}", (group, moment))
            self.num_keys -= len(rows)
            question = "SELECT min(due) FROM cold WHERE keygroup = ? AND due IS NOT NULL"
            [(earliest,)] = self._db.execute(question, (group,))
        self._next.pop(group)
        if earliest is not None:
            self._next[group] = earliest
        return [
            Row(key_of(text), group, value, None, bool(fresh)) for text, _, value, fresh in rows
        ]

    def frozen(self, full: bool) -> Iterator[Part]:
        """The rows that are here now, or those that no checkpoint has yet, in parts; they are in
        the checkpoint from now on. What comes later changes nothing, and another thread may have
        them."""
        joined = "" if full else "JOIN fresh USING (key)"
        with _told():
            cursor = self._db.execute(f"SELECT key, keygroup, value FROM cold {joined}")
            table = mapped(_batches(cursor), _schema())
            self._db.execute("DELETE FROM fresh")
        return map(_part, _pieces(table))

    @property
    def num_bytes(self) -> int:
        """On the disk, or in its cache."""
        [(pages,)] = self._db.execute("PRAGMA page_count")
        [(size,)] = self._db.execute("PRAGMA page_size")
        return int(pages * size)


def _bounded(due: int | None) -> int | None:
    return None if due is None else min(due, _LATEST)


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("key", pa.large_string()), ("group", pa.uint8()), ("value", pa.large_string())]
    )


def _batches(cursor: sqlite3.Cursor) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    schema = _schema()
    while rows := cursor.fetchmany(_AT_ONCE):
        columns = zip(*rows, strict=True)
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _pieces(table: pa.Table) -> Iterator[pa.Table]:
    """Tables of some size, in place of many small ones."""
    import pyarrow as pa

    batches: list[pa.RecordBatch] = []
    size = 0
    for batch in table.to_batches():
        batches.append(batch)
        size += batch.nbytes
        if size >= _PART_BYTES:
            yield pa.Table.from_batches(batches)
            batches, size = [], 0
    if batches:
        yield pa.Table.from_batches(batches)


def _part(table: pa.Table) -> Part:
    keys = [key_of(text) for text in table.column("key").to_pylist()]
    return Part(keys, table.column("group"), table.column("value"))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageUnavailable(
            f"state that has no room in memory cannot be kept on the local disk: {error}. Point "
            "TMPDIR to a larger disk, or give the stream more state_memory or workers."
        ) from error
