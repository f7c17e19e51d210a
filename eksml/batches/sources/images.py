"""Image files as arrays of pixels."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

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

Mode = Literal["L", "RGB", "RGBA"]
Side = Annotated[int, Field(ge=1, le=65_535)]
_CHANNELS: dict[str, int] = {"L": 1, "RGB": 3, "RGBA": 4}


def images(path: Paths, size: tuple[int, int] | None = None, mode: Mode = "RGB") -> Images:
    """Images in the column ``image``, beside their ``path``.

    With ``size`` every image is brought to it, and the column is a list of fixed sizes (height,
    width, channels) of uint8: a batch of n is one array ``(n, h, w, c)``. Without it each keeps
    its own size: a list of rows, each a list of pixels, each ``c`` values of uint8; the values of
    one image lie in one stretch, so that ``row.values.flatten().flatten()``, reshaped to
    ``(len(row), -1, c)``, is its array without a copy. A file that is no image is a row with an
    error.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        size: Height and width in pixels.
        mode: ``"L"`` (grey, 1 channel), ``"RGB"`` (3) or ``"RGBA"`` (4).

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Images(**dict[str, Any](path=path, size=size, mode=mode))


class Images(Files):
    """See ``images``."""

    kind: ClassVar[str] = "images"
    endings: ClassVar[tuple[str, ...]] = (
        ".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    )  # fmt: skip

    size: tuple[Side, Side] | None = None
    """Height and width in pixels; None leaves each image's own."""
    mode: Mode = "RGB"
    """What a pixel is."""

    def inventory(self) -> Inventory:
        """Lists the files."""
        library("PIL.Image", "images")
        return Inventory(pieces_of(self.files(), 1), self._schema(), "files")

    def read(self, piece: Piece) -> pa.Table:
        data = content(piece.file, piece.size)
        pixels, error = decoded(lambda: self._pixels(data))
        row = {"path": piece.file, "image": None if pixels is None else self._array(pixels)}
        return marked(one_row(self._schema(), row), piece.file, [0], [error])

    def _pixels(self, data: bytes) -> np.ndarray:
        """The image as (height, width, channels) of uint8."""
        import numpy as np

        with library("PIL.Image", "images").open(io.BytesIO(data)) as image:
            if self.size is not None:
                # JPEG can be decoded at a half, a quarter or an eighth of its size
                image.draft(self.mode, (self.size[1], self.size[0]))
            made = image.convert(self.mode)
        if self.size is not None and made.size != (self.size[1], self.size[0]):
            made = made.resize((self.size[1], self.size[0]))
        return np.asarray(made).reshape(made.height, made.width, _CHANNELS[self.mode])

    def _array(self, pixels: np.ndarray) -> pa.Array:
        """The image as an array of one row."""
        import pyarrow as pa

        height, width, channels = pixels.shape
        values = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), channels)
        if self.size is not None:
            rows = pa.FixedSizeListArray.from_arrays(values, width)
            return pa.FixedSizeListArray.from_arrays(rows, height)
        borders = pa.array(range(0, height * width + 1, width), pa.int32())
        rows = pa.ListArray.from_arrays(borders, values)
        return pa.ListArray.from_arrays(pa.array([0, height], pa.int32()), rows)

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        pixel: Any = pa.list_(pa.uint8(), _CHANNELS[self.mode])
        height, width = self.size or (-1, -1)
        return pa.schema(
            [("path", pa.string()), ("image", pa.list_(pa.list_(pixel, width), height))]
        )
