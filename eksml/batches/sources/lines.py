"""Files of lines: a range of bytes as whole lines, read without the rest of the file.

A line ends with a line feed, a carriage return before it counts to the end. The last line needs
none. A mark of byte order at the beginning of a file is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.reading import opened
from eksml.errors import Damaged, InvalidSpec, Problem
from eksml.storage import Stat

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

FIRST_SAMPLE = 2**20
"""Bytes of the first file from which columns and their types are taken …"""
SAMPLE = 2**16
"""… and bytes of each other file, which are compared with them."""
CODECS = {"gz": "gzip", "zst": "zstd"}
_TAIL = 2**16
_LONGEST = 2**28
"""Bytes of a line: a file without line breaks shall not fill the memory."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Lines:
    """Some lines of a file, in their order."""

    data: bytes
    begins: np.ndarray
    """Where each begins in ``data``."""
    ends: np.ndarray
    """Where each ends in ``data``, without its line feed."""
    places: np.ndarray
    """Where each begins in the file (after decompression): int64."""

    def __len__(self) -> int:
        return len(self.begins)

    def part(self, first: int, last: int) -> Lines:
        """The lines from ``first`` to before ``last``."""
        cut = slice(first, last)
        return Lines(self.data, self.begins[cut], self.ends[cut], self.places[cut])

    @property
    def text(self) -> memoryview:
        """All of them, with what lies between, and no line feed at the end."""
        return (
            memoryview(self.data)[self.begins[0] : self.ends[-1]] if len(self) else memoryview(b"")
        )

    @property
    def longest(self) -> int:
        """Bytes of the longest line."""
        return int((self.ends - self.begins).max(initial=0))


def lines_of(piece: Piece, *, empty: bool) -> Lines:
    """The lines that begin in a piece; with ``empty`` also those without anything in them.

    Raises:
        Damaged: The file has changed, or its compression is broken.
        NotFound, AccessDenied, StorageUnavailable: It cannot be read.
    """
    with opened(piece.file, piece.size) as stream:
        if codec := codec_of(piece.file):
            return _cut(_decompressed(stream, codec, None), 0, empty)
        return _cut(*_range(stream, piece), empty)


def sample_of(file: Stat, size: int) -> Lines:
    """The lines, not empty, that begin in the first ``size`` bytes of a file. Raises as above."""
    piece = Piece(str(file.uri), file.size, 0, min(size, file.size))
    codec = codec_of(piece.file)
    if codec is None:
        return lines_of(piece, empty=False)
    with opened(piece.file, piece.size) as stream:
        return _cut(_decompressed(stream, codec, size), 0, False)


def codec_of(file: str) -> str | None:
    """By which codec of pyarrow a file is compressed, as its name says."""
    return CODECS.get(file.lower().rpartition(".")[2])


def check_compression(files: Sequence[Stat]) -> None:
    """Raises InvalidSpec where only some are compressed: those are read whole, others by ranges."""
    packed = [file for file in files if codec_of(str(file.uri))]
    if packed and len(packed) < len(files):
        told = f"{len(packed)} of {len(files)} files are compressed."
        raise InvalidSpec([Problem("path", told, "Give the two sorts to two runs.")], "the input")


def inventory_of(
    files: Sequence[Stat], schema: pa.Schema, sample: Lines, begins: Sequence[int]
) -> Inventory:
    """What there is in files whose lines start at the bytes ``begins``.

    Raises:
        InvalidSpec: There is no line at all.
    """
    if codec_of(str(files[0].uri)):
        whole = tuple(Piece(str(file.uri), file.size) for file in files)
        return Inventory(whole, schema, "files")
    pieces = tuple(
        Piece(str(file.uri), file.size, begin, file.size)
        for file, begin in zip(files, begins, strict=True)
        if begin < file.size
    )
    if not pieces:
        raise InvalidSpec([Problem("path", "no file has a row.", "Check the path.")], "the input")
    return Inventory(pieces, schema, "bytes", max(1.0, len(sample.text) / max(1, len(sample))))


def _range(stream: Any, piece: Piece) -> tuple[bytes, int]:
    """The bytes of the lines that begin in a piece, and where they are in the file."""
    if piece.start >= piece.stop:
        return b"", piece.start
    # A line begins where the byte before it is a line feed
    before = max(piece.start - 1, 0)
    data: bytes = stream.read_at(piece.stop - before, before)
    begin = 0
    if piece.start:
        begin = data.find(b"\n") + 1
        if begin == 0 or before + begin >= piece.stop:
            return b"", piece.start
    return data[begin:] + _rest_of_line(stream, data, piece), before + begin


def _rest_of_line(stream: Any, data: bytes, piece: Piece) -> bytes:
    parts, at, step = list[bytes](), piece.stop, _TAIL
    while at < piece.size and not data.endswith(b"\n"):
        if at - piece.stop > _LONGEST:
            told = f"{piece.file} has a line of more than {_LONGEST >> 20} MB at byte {piece.stop}."
            raise Damaged(f"{told} Check that it is a file of lines.")
        data = stream.read_at(min(step, piece.size - at), at)
        data = data[: data.find(b"\n") + 1] or data
        parts.append(data)
        at, step = at + len(data), step * 2
    return b"".join(parts)


def _decompressed(stream: Any, codec: str, size: int | None) -> bytes:
    """All of a file, or about its first ``size`` bytes, to the end of a line."""
    import pyarrow as pa

    with pa.CompressedInputStream(stream, codec) as plain:
        parts: list[bytes] = [plain.read(size)]
        while size is not None and parts[-1] and not parts[-1].endswith(b"\n"):
            data = plain.read(_TAIL)
            parts.append(data[: data.find(b"\n") + 1] or data)
    return b"".join(parts)


def _cut(data: bytes, offset: int, empty: bool) -> Lines:
    import numpy as np

    values = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(values == 10)
    open_end = [len(data)] if data and not data.endswith(b"\n") else []
    ends = np.concatenate([feeds, np.array(open_end, np.int64)])
    begins = np.concatenate([np.zeros(1, np.int64), feeds + 1])[: len(ends)]
    places = begins + offset
    if len(begins) and offset == 0 and data.startswith(_BOM):
        begins[0] = len(_BOM)
    if b"\r\n" in data:
        ends -= (ends > begins) & (values[ends - 1] == 13) & (ends < len(data))
    if empty:
        return Lines(data, begins, ends, places)
    kept = np.flatnonzero(ends > begins)
    kept = kept[~_blank(data, values, begins[kept], ends[kept])]
    return Lines(data, begins[kept], ends[kept], places[kept])


def _blank(data: bytes, values: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which lines, none of them empty, hold nothing but blanks."""
    import numpy as np

    blank = np.zeros(len(begins), bool)
    for index in np.flatnonzero(np.isin(values[begins], (9, 13, 32))):
        blank[index] = not data[begins[index] : ends[index]].strip()
    return blank
