"""JSON texts, one an event, as columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError
from eksml.streams.batch import columns_of, single

if TYPE_CHECKING:
    import pyarrow as pa


def decode(texts: Sequence[bytes]) -> pa.RecordBatch:
    """One event of each text, which is a JSON object.

    Types are found out batch by batch, and text that looks like a time becomes a timestamp.

    Raises:
        CallError: A text is no JSON object, or columns do not fit together.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    data = b"\n".join(texts)
    reading = arrow_json.ReadOptions(use_threads=False, block_size=max(1 << 16, len(data) + 1))
    try:
        table = arrow_json.read_json(pa.BufferReader(data), reading)
    except pa.ArrowException:
        return columns_of([_object(text) for text in texts])
    if table.num_rows != len(texts):  # texts with line ends inside, or several objects in one
        return columns_of([_object(text) for text in texts])
    return single(table)


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CallError(f"{text[:80]!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CallError(f"{text[:80]!r} is no JSON object.")
    return value
