"""New files with every checkpoint, each there as a whole or not at all, and once."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from eksml.storage import URI, Part, read_part, write_part
from eksml.streams.batch import Batch, as_table, concat_tables
from eksml.streams.sinks.base import Desk

if TYPE_CHECKING:
    import pyarrow as pa

STAGED = "_staged"
"""Readers of data folders leave out names that begin with an underscore."""
_LARGE_BYTES = 64 << 20


class FilesWriter:
    """At the barrier an epoch's events are written into ``_staged``; at the commit they appear
    beside it, under names that run, step, epoch and task decide: doing it again changes nothing.
    """

    def __init__(self, folder: URI, format: str, desk: Desk) -> None:
        self._folder = folder
        self._format = format
        self._desk = desk
        self._tables: list[pa.Table] = []
        self._num_bytes = 0
        self._parts: list[Part] = []

    async def write(self, batch: Batch) -> None:
        table = as_table(batch.columns)
        self._tables.append(table)
        self._num_bytes += table.nbytes
        if self._num_bytes > _LARGE_BYTES:
            await self._stage()

    async def _stage(self) -> None:
        if not self._tables:
            return
        table = concat_tables(self._tables)
        self._tables, self._num_bytes = [], 0
        name = f"{self._desk.run.name}-{self._desk.step}-{self._desk.index:04d}.{self._format}"
        self._parts.append(await asyncio.to_thread(self._write, name, table))

    def _write(self, name: str, table: pa.Table) -> Part:
        return write_part(self._folder / STAGED, name, _encoded(table, self._format))

    async def prepare(self, epoch: int) -> Any:
        await self._stage()
        parts, self._parts = self._parts, []
        if not parts:
            return None
        desk = self._desk
        stem = f"{desk.run.name}-{desk.identity}-{desk.step}-{epoch:08d}-{desk.index:04d}"
        return {
            f"{stem}-{number:02d}.{self._format}": asdict(part) for number, part in enumerate(parts)
        }

    async def commit(self, epoch: int, token: Any) -> None:
        for name, part in token.items():
            await asyncio.to_thread(self._publish, self._folder / name, Part(**part))

    def _publish(self, target: URI, part: Part) -> None:
        staged = self._folder / STAGED
        if not (staged / part.file).exists():
            return  # an earlier commit did it: only a commit takes it away
        target.write_bytes(read_part(staged, part))
        (staged / part.file).delete()

    async def close(self) -> None:
        """Nothing is open."""


def _encoded(table: pa.Table, format: str) -> memoryview:
    import pyarrow as pa

    if format == "jsonl":
        return memoryview(_lines(table))
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return memoryview(sink.getvalue())


def _lines(table: pa.Table) -> bytes:
    import json

    from eksml.streams.sinks.values import plain

    return b"".join(json.dumps(row, default=plain).encode() + b"\n" for row in table.to_pylist())
