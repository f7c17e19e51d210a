"""Columns as Iceberg can hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def conformed(table: pa.Table) -> pa.Table:
    """The same rows in types that Iceberg's second version knows.

    Unsigned numbers become signed ones that hold them, float16 float32, times microseconds (what
    is finer is cut off) and those with a zone UTC; dictionaries are written out. A column that
    holds nothing but nulls and has no type is left out, which Iceberg reads as nulls.

    Raises:
        TypeError: There is no such type: durations, unions, a null without type inside of a list.
        pyarrow.ArrowInvalid: A number of 64 bits without sign is too large for one with a sign.
    """
    import pyarrow as pa

    kept = [field.name for field in table.schema if not pa.types.is_null(field.type)]
    whole = table.select(kept)
    columns = [_cast(whole[field.name], _type_of(field.type)) for field in whole.schema]
    return pa.table(dict(zip(kept, columns, strict=True)))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    if column.type == kind:
        return column
    # What is too large must be told, what is too fine may be cut off
    exact = not pa.types.is_timestamp(kind) and not pa.types.is_time(kind)
    return column.cast(kind, safe=exact)


def _type_of(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _type_of(kind.storage_type)
    if types.is_dictionary(kind):
        return _type_of(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(_type_of(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(_type_of(kind.key_type), _type_of(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pa.list_(_type_of(kind.value_type), kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_type_of(kind.value_type))
    return _plain(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    types = pa.types
    if types.is_unsigned_integer(kind):
        return pa.int32() if kind.bit_width < 32 else pa.int64()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_date(kind):
        return pa.date32()
    if types.is_null(kind) or types.is_duration(kind) or types.is_interval(kind):
        raise TypeError(f"Iceberg has no type for {kind}.")
    return kind
