"""The picture of each row for vision models: encoded, as a file's place, or as pixels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.batches.models.prompts import Unaskable
from eksml.batches.sources.whole import decoded, library
from eksml.errors import Problem
from eksml.storage import URI

if TYPE_CHECKING:
    import pyarrow as pa
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Others are not tried: some hand a row's bytes to programs."""
_FIELDS = ("bytes", "path")
"""Of a struct, as Hugging Face's datasets keep images."""


@dataclass(frozen=True)
class Pictures:
    """A column of pictures, a null for a row that has none.

    A value is an encoded image as bytes, the place of one (absolute, or ``s3://``), a struct of
    these two with ``bytes`` and ``path``, or pixels of uint8 as ``eksml.batches.images`` gives
    them: (height, width, channels) with 1, 3 or 4 channels.
    """

    column: str

    def problems(self, schema: pa.Schema) -> list[Problem]:
        """Whether a column that is there can hold pictures."""
        if self.column not in schema.names:
            return []
        kind = schema.field(self.column).type
        if _is_encoded(kind) or _is_place(kind) or _is_struct(kind) or _is_pixels(kind):
            return []
        told = f"Column {self.column!r} holds {kind}, which are no pictures."
        remedy = "Give bytes, paths, structs of both, or pixels of eksml.batches.images."
        return [Problem("image_column", told, remedy)]

    def of(self, table: pa.Table) -> list[Image | Unaskable | None]:
        """The picture of each row, in RGB and the right way up."""
        column = table.column(self.column)
        if _is_pixels(column.type):
            # One by one: pictures of many sizes have no common array
            rows = (column.slice(row, 1) for row in range(len(column)))
            return [self._picture(_of_pixels, row) for row in rows]
        return [self._picture(_of_value, value) for value in column.to_pylist()]

    def _picture(self, read: Callable[[Any], Image | None], value: Any) -> Image | Unaskable | None:
        picture, error = decoded(lambda: read(value))
        if error is not None:
            return Unaskable(f"Column {self.column!r} holds no picture: {error.rstrip('.')}.")
        return picture


def _of_value(value: Any) -> Image | None:
    if isinstance(value, Mapping):
        value = value.get("path") if value.get("bytes") is None else value["bytes"]
    if value is None:
        return None
    data = _content(value) if isinstance(value, str) else value
    upright = library("PIL.ImageOps", "images").exif_transpose
    with library("PIL.Image", "images").open(io.BytesIO(data), formats=FORMATS) as image:
        return upright(image).convert("RGB")  # type: ignore[no-any-return]


def _of_pixels(row: pa.ChunkedArray) -> Image | None:
    """The picture of a column with one row: a list of lines, each a list of pixels."""
    if row.null_count:
        return None
    lines = row.combine_chunks().flatten()
    pixels = lines.flatten()
    channels = pixels.type.list_size
    shape = (len(lines), len(pixels) // len(lines), channels)[: 3 if channels > 1 else 2]
    values = pixels.flatten().to_numpy().reshape(shape)
    return library("PIL.Image", "images").fromarray(values).convert("RGB")  # type: ignore[no-any-return]


def _content(place: str) -> bytes:
    if not place.startswith(("/", "s3://", "file:///")):
        raise ValueError(f"{place!r:.200} is no absolute place.")
    return URI.parse(place).read_bytes()


def _is_encoded(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_place(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_struct(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    return types.is_struct(kind) and any(kind.get_field_index(name) >= 0 for name in _FIELDS)


def _is_pixels(kind: pa.DataType) -> bool:
    """Lists of lists of (1, 3 or 4) uint8, as fixed sizes or not."""
    import pyarrow.types as types

    for _ in range(2):
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return False
        kind = kind.value_type
    pixel = types.is_fixed_size_list(kind) and kind.list_size in (1, 3, 4)
    return pixel and types.is_uint8(kind.value_type)
