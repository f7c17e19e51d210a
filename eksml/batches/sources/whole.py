"""Files that are read whole, each for itself: images, audio, documents."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from eksml.batches.blocks import Piece
from eksml.batches.sources.reading import first_line
from eksml.errors import MissingExtra
from eksml.storage import Stat

if TYPE_CHECKING:
    from types import ModuleType

Made = TypeVar("Made")
_OBJECT = re.compile(r"<_io\.BytesIO object at 0x[0-9a-f]+>")


def pieces_of(files: list[Stat], rows: int | None) -> tuple[Piece, ...]:
    """One piece a file, of so many rows each."""
    return tuple(Piece(str(file.uri), file.size, 0, 1, rows) for file in files)


def decoded(decode: Callable[[], Made]) -> tuple[Made | None, str | None]:
    """What ``decode`` makes of a file, or why it cannot: a broken file may raise anything."""
    try:
        return decode(), None
    except MissingExtra:
        raise
    except Exception as error:
        # Without the place in memory, which would make each run's errors others
        return None, _OBJECT.sub("the file", f"{type(error).__name__}: {first_line(error)}")


def library(name: str, extra: str) -> ModuleType:
    """A library that an extra brings.

    Raises:
        MissingExtra: It is not installed.
    """
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        told = f"Reading {extra} needs {name.partition('.')[0]}: pip install 'eksml[{extra}]'"
        raise MissingExtra(told) from error


def one_row(schema: Any, values: dict[str, Any]) -> Any:
    """A table of one row, of plain values or arrays of length one; what is not named is null."""
    import pyarrow as pa

    def column(field: Any) -> Any:
        value = values.get(field.name)
        return value if isinstance(value, pa.Array) else pa.array([value], field.type)

    return pa.Table.from_arrays([column(field) for field in schema], schema=schema)
