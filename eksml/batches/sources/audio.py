"""Audio files as mono waves."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Files, Paths
from eksml.batches.sources.reading import content
from eksml.batches.sources.selected import marked
from eksml.batches.sources.whole import decoded, library, one_row, pieces_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def audio(path: Paths, rate_hz: int | None = None) -> Audio:
    """Sound in the column ``audio`` (list of float32 from -1 to 1, channels averaged), with
    ``path`` and ``rate_hz``. A file that is no sound is a row with an error.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        rate_hz: Samples a second that all are brought to; None leaves each file's own.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Audio(**dict[str, Any](path=path, rate_hz=rate_hz))


class Audio(Files):
    """See ``audio``."""

    kind: ClassVar[str] = "audio"
    endings: ClassVar[tuple[str, ...]] = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aiff", ".aif")

    rate_hz: Annotated[int, Field(ge=1, le=768_000)] | None = None
    """Samples a second; None leaves each file's own."""

    def inventory(self) -> Inventory:
        """Lists the files."""
        library("soundfile", "audio")
        return Inventory(pieces_of(self.files(), 1), _schema(), "files")

    def read(self, piece: Piece) -> pa.Table:
        import pyarrow as pa

        data = content(piece.file, piece.size)
        found, error = decoded(lambda: self._wave(data))
        row: dict[str, Any] = {"path": piece.file}
        if found is not None:
            wave, rate_hz = found
            borders = pa.array([0, len(wave)], pa.int32())
            row |= {"audio": pa.ListArray.from_arrays(borders, pa.array(wave)), "rate_hz": rate_hz}
        return marked(one_row(_schema(), row), piece.file, [0], [error])

    def _wave(self, data: bytes) -> tuple[np.ndarray, int]:
        import numpy as np

        found, rate_hz = library("soundfile", "audio").read(
            io.BytesIO(data), dtype="float32", always_2d=True
        )
        wave = found.mean(axis=1, dtype=np.float32)
        if self.rate_hz is None or self.rate_hz == rate_hz:
            return wave, rate_hz
        return resampled(wave, rate_hz, self.rate_hz), self.rate_hz


def resampled(wave: np.ndarray, rate_hz: int, wanted_hz: int) -> np.ndarray:
    """The wave at another rate: exact for what both rates can hold; what the lower one cannot is
    left out. By its spectrum, which takes the wave to repeat, so that the first and last
    milliseconds touch each other."""
    import numpy as np

    length = round(len(wave) * wanted_hz / rate_hz)
    if not length:
        return wave[:0]
    spectrum = np.fft.rfft(wave)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(wave))).astype(np.float32)


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [("path", pa.string()), ("audio", pa.list_(pa.float32())), ("rate_hz", pa.int32())]
    )
