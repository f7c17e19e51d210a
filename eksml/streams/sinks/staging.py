"""Events of an epoch, kept until a checkpoint stands: written ahead, so that nothing is lost."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from eksml.storage import Part, read_part, write_part
from eksml.streams.batch import Batch, as_table, concat_tables, from_ipc, to_ipc
from eksml.streams.sinks.base import Desk

if TYPE_CHECKING:
    import pyarrow as pa

STAGED = "staged"
"""Folder of a run for events that wait for their checkpoint."""
TIME = "__time"


class Staged:
    """For sinks that make an epoch's effects happen in one stroke: collects the events, writes them
    into the run's storage at the barrier, and has them again at the commit."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._folder = desk.run / STAGED
        self._tables: list[pa.Table] = []
        self._ready: dict[str, pa.Table] = {}

    def add(self, batch: Batch) -> None:
        """Take events of the present epoch."""
        import pyarrow as pa

        table = as_table(batch.columns)
        self._tables.append(table.append_column(TIME, pa.array(batch.times)))

    async def prepare(self, epoch: int) -> Any:
        """Write them; the token for :meth:`take`, None if there are none."""
        tables, self._tables = self._tables, []
        if not tables:
            return None
        table = concat_tables(tables)
        desk = self._desk
        name = f"{desk.attempt:06d}-{desk.step}-{desk.index:04d}-{epoch:08d}.arrow"
        data = memoryview(to_ipc(table, compression="lz4"))
        part = await asyncio.to_thread(write_part, self._folder, name, data)
        self._ready = {part.file: table}
        return {"part": asdict(part), "writer": self._desk.index}

    async def take(self, token: Any) -> pa.Table | None:
        """The events of an epoch, with ``__time``; from memory, or from storage after a restart.

        None if they are gone from there: only :meth:`done` takes them away.
        """
        part = Part(**token["part"])
        if part.file in self._ready:
            return self._ready[part.file]
        return await asyncio.to_thread(self._read, part)

    def _read(self, part: Part) -> pa.Table | None:
        if not (self._folder / part.file).exists():
            return None
        return from_ipc(bytes(read_part(self._folder, part)))

    async def done(self, token: Any) -> None:
        """The epoch's effects have happened."""
        file = token["part"]["file"]
        self._ready.pop(file, None)
        await asyncio.to_thread((self._folder / file).delete)


class StagedWriter:
    """A ``Writer`` whose epochs take effect in one stroke, when their checkpoint stands.

    A sink's own writer says in ``_deliver`` what that is; it must bear that an epoch comes again.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._staged = Staged(desk)

    async def write(self, batch: Batch) -> None:
        self._staged.add(batch)

    async def prepare(self, epoch: int) -> Any:
        return await self._staged.prepare(epoch)

    async def commit(self, epoch: int, token: Any) -> None:
        table = await self._staged.take(token)
        if table is None:
            return
        await self._deliver(epoch, token["writer"], table)
        await self._staged.done(token)

    async def close(self) -> None:
        """Nothing is open."""

    async def _deliver(self, epoch: int, writer: int, table: pa.Table) -> None:
        """Make the effects of an epoch happen, in the name of the writer that prepared it, which
        may be another task's. ``table`` has the events and ``__time``."""
        raise NotImplementedError
