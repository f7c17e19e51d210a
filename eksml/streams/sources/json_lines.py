"""JSON texts, one an event, as columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError
from eksml.streams.batch import columns_of, single

if TYPE_CHECKING:
    import pyarrow as pa


def decode(texts: pa.Array) -> pa.RecordBatch:
    """One event of each text of a binary column, which is a JSON object.

    Types are found out batch by batch, and text that looks like a time becomes a timestamp.

    Raises:
        CallError: A text is no JSON object, or columns do not fit together.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    data = _lines(texts)
    reading = arrow_json.ReadOptions(use_threads=False, block_size=max(1 << 16, data.size + 1))
    try:
        table = arrow_json.read_json(pa.BufferReader(data), reading)
    except pa.ArrowException:
        return columns_of([_object(text) for text in texts.to_pylist()])
    if table.num_rows != len(texts):  # texts with line ends inside, or several objects in one
        return columns_of([_object(text) for text in texts.to_pylist()])
    return single(table)


def _lines(texts: pa.Array) -> pa.Buffer:
    """All of them, each but the last with a line end behind it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = pa.large_binary()
    whole = pa.LargeListArray.from_arrays([0, len(texts)], texts.cast(kind))
    joined: pa.Buffer = pc.binary_join(whole, pa.scalar(b"\n", kind))[0].as_buffer()
    return joined


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CallError(f"{text[:80]!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CallError(f"{text[:80]!r} is no JSON object.")
    return value
