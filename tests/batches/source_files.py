"""Files for the tests of sources, and all rows of a source."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from eksml.batches.sources.base import Source
from eksml.storage import URI


def put(folder: Path, root: URI) -> URI:
    """Copy a local folder's files to ``root``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            (root / str(path.relative_to(folder))).write_bytes(path.read_bytes())
    return root


def everything(source: Source) -> pa.Table:
    """All rows, in the inventory's order."""
    return pa.concat_tables([source.read(piece) for piece in source.inventory().pieces])
