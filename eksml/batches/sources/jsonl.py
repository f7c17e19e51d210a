"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Paths
from eksml.batches.sources.filters import Conditions
from eksml.batches.sources.line_rows import Unreadable, schema_of, table_of
from eksml.batches.sources.lines import (
    FIRST_SAMPLE,
    SAMPLE,
    Lines,
    check_compression,
    inventory_of,
    lines_of,
    sample_of,
)
from eksml.batches.sources.parallel import look_into
from eksml.batches.sources.selected import Selected
from eksml.errors import InvalidSpec, Problem
from eksml.storage import Stat

if TYPE_CHECKING:
    import pyarrow as pa

_BLOCK = 2**20


def jsonl(
    path: Paths, columns: Sequence[str] | None = None, filter: Conditions | None = None
) -> Jsonl:
    """Rows of JSON lines, also compressed as ``.gz`` or ``.zst`` (then a file is read whole).

    Columns and types are those of the first megabyte of the first file and the first 64 KB of each
    other one. A line that is no object, has a value of another type or a key that is not among
    them is a row with an error; with ``columns``, other keys are passed over. Dates stay text.

    Args:
        path: A file, a folder, a pattern with ``*``, or several; local or ``s3://``.
        columns: Those to read; all if None.
        filter: Conditions, as ``filters`` describes. Rows with an error pass.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Jsonl(**dict[str, Any](path=path, columns=columns, filter=filter))


class Jsonl(Selected):
    """See ``jsonl``."""

    kind: ClassVar[str] = "jsonl"
    endings: ClassVar[tuple[str, ...]] = tuple(
        f".{name}{packed}" for name in ("jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst")
    )

    def inventory(self) -> Inventory:
        """Reads the beginnings of all files, sixteen at a time."""
        files = self.files()
        check_compression(files)
        first = sample_of(files[0], FIRST_SAMPLE)
        rest = look_into(files[1:], lambda file: _seen(file, sample_of(file, SAMPLE)))
        schema = self.choose([_seen(files[0], first), *rest], guessed=True, sparse=True)
        return inventory_of(files, schema, first, [0] * len(files))

    def read(self, piece: Piece) -> pa.Table:
        types, strict = self.types(), self.columns is None
        lines = lines_of(piece, empty=False)
        table = table_of(piece.file, lines, types, lambda part: _parse(part, types, strict))
        return self.hand_over(table)


def _seen(file: Stat, lines: Lines) -> tuple[str, pa.Schema]:
    if bytes(lines.text[:1]) == b"[":
        told, remedy = "is one JSON array.", "Write one object a line: jq -c '.[]' does it."
        raise InvalidSpec([Problem(str(file.uri), told, remedy)], "the input")
    try:
        return str(file.uri), schema_of(lines, lambda part: _json(part).schema)
    except Unreadable as error:
        told = f"has no line that is a JSON object: {error}"
        raise InvalidSpec([Problem(str(file.uri), told)], "the input") from error


def _parse(lines: Lines, types: pa.Schema, strict: bool) -> pa.Table:
    import pyarrow as pa
    from pyarrow.json import ParseOptions

    behaviour = "error" if strict else "ignore"
    options = ParseOptions(explicit_schema=types, unexpected_field_behavior=behaviour)
    try:
        return _json(lines, options).select(types.names)
    except pa.ArrowException as error:
        if len(lines) == 1 and "unexpected field" in str(error):
            raise Unreadable(_unexpected(lines, types)) from error
        raise


def _json(lines: Lines, options: Any = None) -> pa.Table:
    import numpy as np
    import pyarrow as pa
    from pyarrow.json import ReadOptions, read_json

    values = np.frombuffer(lines.data, np.uint8)
    framed = (values[lines.begins] == ord("{")) & (values[lines.ends - 1] == ord("}"))
    if len(lines) > 1 and not framed.all():
        # Else an object could go on in the next line, or be followed by another in its own
        raise Unreadable("A line does not begin and end with braces.")
    # pyarrow believes what it is told about the encoding
    pa.array([lines.text], pa.large_binary()).cast(pa.large_string())
    block = ReadOptions(block_size=max(_BLOCK, 2 * lines.longest))
    return read_json(pa.BufferReader(lines.text), block, options)


def _unexpected(lines: Lines, types: pa.Schema) -> str:
    new = [name for name in json.loads(bytes(lines.text)) if name not in types.names]
    named = f"the keys {', '.join(map(repr, new))}" if new else "keys inside of objects"
    return f"It has {named} that the first lines do not have; columns=[…] passes over others."
