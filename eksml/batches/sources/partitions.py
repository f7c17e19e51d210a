"""Folders named ``key=value``, as Hive, Spark and Delta write them: columns outside of files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    import pyarrow as pa

NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?\d{1,18}")


def values_of(file: str) -> dict[str, str | None]:
    """The values that a file's folders name, in their order."""
    pairs = (part.split("=", 1) for part in file.split("/")[:-1] if "=" in part[1:])
    return {
        unquote(name): None if value == NULL else unquote(value) for name, value in pairs if name
    }


def types_of(files: Iterable[str]) -> dict[str, pa.DataType]:
    """The type of each key: int64 where all its values are whole numbers, else string."""
    import pyarrow as pa

    types = dict[str, Any]()
    for file in files:
        for name, value in values_of(file).items():
            whole = value is None or _INTEGER.fullmatch(value)
            types[name] = types.get(name, pa.int64()) if whole else pa.string()
    return types


def scalar(value: str | None, type_: pa.DataType) -> pa.Scalar:
    """One folder's value in its column's type.

    Raises:
        pyarrow.ArrowException: It is no value of that type.
    """
    import pyarrow as pa

    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return pa.scalar(value.encode() if value is not None else None, type_)
    return pa.scalar(value, pa.string()).cast(type_)
