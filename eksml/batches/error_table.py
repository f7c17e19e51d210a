"""Rows that failed: which, why, and what they held. One Parquet file a block, in the run's folder.

Of a block, the file of the newest generation counts: it holds what failed last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eksml.batches.blocks import ERROR, FILE, PLACE
from eksml.batches.ledger import Key
from eksml.batches.sink import encode
from eksml.storage import URI
from eksml.storage.patience import patiently

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "errors"
PLAIN = ("string", "large_string", "boolean", "integer", "floating", "temporal", "decimal")
"""Types that are kept: what a person may want to look at."""


def write(run: URI, key: Key, failed: pa.Table) -> None:
    """Write the failed rows of a block: their input columns, ``_file``, ``_place``, ``_error``.

    Columns that are no texts, numbers or times are left out: the input has them. Older generations
    of the block's errors go, since these are what is left of them.
    """
    import pyarrow as pa

    kept = [name for name in failed.column_names if _is_plain(failed.schema.field(name).type, pa)]
    names = {FILE: "_file", PLACE: "_place", ERROR: "_error"}
    shown = failed.select(kept).rename_columns([names.get(name, name) for name in kept])
    if shown.num_rows or key.generation:  # an empty one says that an older one is outdated
        data = encode(shown, "parquet")
        patiently(lambda: (run / FOLDER / f"{key}.parquet").write_bytes(data))


def forget_older(run: URI, key: Key) -> None:
    """Delete what earlier generations of a block noted. After its receipt is written."""
    for generation in range(key.generation):
        (run / FOLDER / f"{Key(key.block, generation)}.parquet").delete()


def read(run: URI, key: Key) -> pa.Table | None:
    """The failed rows of a block; None if there are none."""
    import pyarrow.parquet as pq

    uri = run / FOLDER / f"{key}.parquet"
    if not uri.exists():
        return None
    import io

    return pq.read_table(io.BytesIO(patiently(uri.read_bytes)))


def places(run: URI, key: Key) -> set[tuple[str, int]]:
    """File and place of each failed row of a block."""
    table = read(run, key)
    if table is None:
        return set()
    return set(zip(table["_file"].to_pylist(), table["_place"].to_pylist(), strict=True))


def _is_plain(kind: Any, pa: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type, pa)
    return any(getattr(pa.types, f"is_{name}")(kind) for name in PLAIN)
