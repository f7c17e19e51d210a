"""Reads files of a folder one after another, and new ones as they come."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError, NotFound, StorageUnavailable
from eksml.storage import URI, arrow_filesystem
from eksml.streams.batch import Batch
from eksml.streams.sources.base import EndOfSource, Place, Read

if TYPE_CHECKING:
    import pyarrow as pa

_LOOK_S = 1.0
"""Pause between looks for new files."""
_ROWS = 16_384
_BYTES = 1 << 20
DONE = "done"


class FilesReader:
    """A task reads the files whose names fall to it, in the order of their names; each name has a
    position: rows of a Parquet file, bytes of lines, or «done».

    Files whose names begin with ``_`` or ``.`` do not count. With ``follow``, a file of lines may
    grow; a Parquet file has to appear as a whole, as it does in S3.
    """

    def __init__(self, folder: URI, format: str, follow: bool, place: Place) -> None:
        self._folder = folder
        self._format = format
        self._follow = follow
        self._index, self._parallelism = place.index, place.parallelism
        self._positions = {name: at for name, at in place.positions.items() if self._is_mine(name)}
        self._split = f"files-{place.index:04d}"
        self._names: list[str] = []
        self._sizes: dict[str, int] = {}
        self._looked_s: float | None = None
        self._parts: Iterator[Batch] | None = None
        self._ended = False

    def _is_mine(self, name: str) -> bool:
        return zlib.crc32(name.encode()) % self._parallelism == self._index

    async def read(self, wait_s: float) -> Read | None:
        if self._parts is None and not self._names:
            await self._look()
        if self._parts is None:
            if not self._names:
                return None
            self._parts = self._open(self._names.pop(0))
        found = await asyncio.to_thread(next, self._parts, None)
        if found is None:
            self._parts = None
            return None
        return Read(self._split, found)

    async def _look(self) -> None:
        """Find files that have something to read.

        Raises:
            EndOfSource: There are none, and no new ones are waited for.
        """
        if self._looked_s is not None:
            if not self._follow:
                self._ended = True
                raise EndOfSource
            if time.monotonic() - self._looked_s < _LOOK_S:
                return
        self._looked_s = time.monotonic()
        self._names = await asyncio.to_thread(self._waiting)

    def _waiting(self) -> list[str]:
        names = []
        for stat in self._folder.list(recursive=True):
            name = stat.uri.relative_to(self._folder)
            hidden = any(part[0] in "._" for part in name.split("/"))
            if hidden or not self._is_mine(name) or self._positions.get(name) == DONE:
                continue
            if self._sizes.get(name) != stat.size:
                self._sizes[name] = stat.size
                names.append(name)
        if not names and not self._follow and not self._positions:
            self._check_folder()
        return names

    def _check_folder(self) -> None:
        if self._index == 0 and not any(True for _ in self._folder.list(recursive=True)):
            raise NotFound(f"{self._folder} holds no file to read.")

    def _open(self, name: str) -> Iterator[Batch]:
        if self._format == "parquet":
            return self._parquet(name)
        return self._lines(name)

    def _parquet(self, name: str) -> Iterator[Batch]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path, filesystem = arrow_filesystem(self._folder / name)
        done, at = self._positions.get(name, 0), 0
        try:
            with pq.ParquetFile(path, filesystem=filesystem) as file:
                for columns in file.iter_batches(_ROWS, use_threads=False):
                    at += columns.num_rows
                    if at > done:
                        fresh = columns.slice(max(0, columns.num_rows - (at - done)))
                        self._positions[name] = at
                        yield _batch(fresh)
        except pa.ArrowException as error:
            raise CallError(f"{self._folder / name} is no Parquet file: {error}") from error
        except OSError as error:
            raise StorageUnavailable(f"{self._folder / name}: {error}") from error
        self._positions[name] = DONE

    def _lines(self, name: str) -> Iterator[Batch]:
        import pyarrow as pa

        path, filesystem = arrow_filesystem(self._folder / name)
        at = self._positions.get(name, 0)
        try:
            with filesystem.open_input_file(path) as file:
                file.seek(at)
                rest = b""
                while data := file.read(_BYTES):
                    whole, end, rest = (rest + data).rpartition(b"\n")
                    lines = [line for line in whole.split(b"\n") if line.strip()]
                    at += len(whole) + len(end)
                    self._positions[name] = at
                    if lines:
                        array = pa.array(lines, pa.binary())
                        yield _batch(pa.RecordBatch.from_arrays([array], names=["line"]))
        except OSError as error:
            raise StorageUnavailable(f"{self._folder / name}: {error}") from error
        if not self._follow:
            self._positions[name] = DONE
            if rest.strip():
                array = pa.array([rest], pa.binary())
                yield _batch(pa.RecordBatch.from_arrays([array], names=["line"]))

    @property
    def splits(self) -> Sequence[str]:
        return [self._split]

    def ended(self) -> Sequence[str]:
        return [self._split] if self._ended else []

    def positions(self) -> dict[str, Any]:
        return dict(self._positions)

    async def committed(self, positions: Mapping[str, Any]) -> None:
        """Nothing: files stay."""

    async def close(self) -> None:
        self._parts = None


def _batch(columns: pa.RecordBatch) -> Batch:
    import numpy as np

    return Batch(np.full(columns.num_rows, time.time_ns() // 1000, np.int64), columns=columns)
