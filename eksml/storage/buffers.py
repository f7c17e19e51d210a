"""Data that is written: one buffer or several, never copied or concatenated on the way."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview
"""What can be written without a copy. Arrays and CPU tensors: ``memoryview(array)``."""
Data: TypeAlias = Buffer | Sequence[Buffer]
"""One buffer, or several that are stored one after another."""


def views_of(data: Data) -> list[memoryview]:
    """``data`` as flat views of bytes over the same memory.

    Raises:
        TypeError: something in it has no contiguous buffer.
    """
    buffers = data if isinstance(data, (list, tuple)) else [data]
    return [view for view in map(_flat, buffers) if view.nbytes]


def _flat(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    return view.cast("B") if view.nbytes else memoryview(b"")


def size_of(views: Sequence[memoryview]) -> int:
    """Bytes in all of ``views``."""
    return sum(view.nbytes for view in views)


def sha256_of(views: Sequence[memoryview]) -> str:
    """Hex digest of the views one after another. Releases the GIL while it works."""
    digest = hashlib.sha256()
    for view in views:
        digest.update(view)
    return digest.hexdigest()


def cut(views: Sequence[memoryview], start: int, length: int) -> Iterator[memoryview]:
    """The views of bytes ``start`` to ``start + length`` of the whole."""
    for view in views:
        if length <= 0:
            return
        piece = view[start : start + length]
        start = max(0, start - view.nbytes)
        if piece.nbytes:
            length -= piece.nbytes
            yield piece


class BufferReader(io.RawIOBase):
    """A seekable, read-only file over views, for libraries that upload files."""

    def __init__(self, views: Sequence[memoryview]) -> None:
        self._views = views
        self._size = size_of(views)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def __len__(self) -> int:
        return self._size

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else size
        chunk = b"".join(cut(self._views, self._at, wanted))
        self._at += len(chunk)
        return chunk

    def readinto(self, target: Any) -> int:
        chunk = self.read(memoryview(target).nbytes)
        memoryview(target)[: len(chunk)] = chunk
        return len(chunk)
