"""Where results go: files whose names follow from the block, each written atomically."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from eksml.batches.iceberg_types import conformed
from eksml.batches.ledger import Key
from eksml.errors import AlreadyExists, NotFound, RunNameInUse
from eksml.storage import URI
from eksml.storage.patience import patiently

if TYPE_CHECKING:
    import pyarrow as pa

CLAIM = "_eksml_run.json"
"""Names the run whose output a folder is. Readers skip files that begin with «_»."""
Format = Literal["parquet", "jsonl"]


@dataclass(frozen=True)
class Sink:
    """A folder of output files."""

    folder: URI
    format: Format = "parquet"
    partition_by: tuple[str, ...] = ()
    for_iceberg: bool = False
    """Whether the types must be such as Iceberg knows."""

    def write(self, key: Key, table: pa.Table) -> tuple[str, ...]:
        """Write the rows of a block, in place of what an earlier try wrote of it.

        Returns:
            The files' names in the folder: one, or one a partition; none for no rows.
        """
        if self.for_iceberg:
            table = conformed(table)
        names = []
        for inside, part in self._parts(table):
            name = f"{inside}part-{_suffix(key)}.{self.format}"
            data = encode(part, self.format)
            patiently(lambda name=name, data=data: (self.folder / name).write_bytes(data))  # type: ignore[misc]
            names.append(name)
        return tuple(names)

    def _parts(self, table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
        if not table.num_rows:
            return
        if not self.partition_by:
            yield "", table
            return
        for inside, rows in _groups(table, self.partition_by):
            yield inside, table.take(rows).drop_columns(list(self.partition_by))


def check_claimable(folder: URI, run: URI) -> bool:
    """Ask whether ``folder`` can be the output of ``run``.

    Returns:
        Whether it is by now.

    Raises:
        RunNameInUse: It is another run's, or holds files already.
    """
    if (owner := _owner(folder)) is not None:
        _check_owner(folder, run, owner)
        return True
    if present := next(iter(folder.list(recursive=True)), None):
        raise RunNameInUse(
            f"The output folder {folder} holds files already, such as {present.uri.name}. "
            "Choose a folder that is empty or does not exist."
        )
    return False


def claim(folder: URI, run: URI) -> bool:
    """Make ``folder`` the output of ``run``; nobody else may write there from now on.

    Returns:
        Whether it was nobody's before.

    Raises:
        RunNameInUse: It is another run's, or holds files already.
    """
    if check_claimable(folder, run):
        return False
    try:
        (folder / CLAIM).write_json({"run": str(run)}, if_absent=True)
    except AlreadyExists:
        _check_owner(folder, run, _owner(folder) or "another run")
        return False
    return True


def release(folder: URI) -> None:
    """Take a claim back."""
    (folder / CLAIM).delete()


def encode(table: pa.Table, kind: Format) -> bytes | memoryview:
    """A table as the bytes of one file."""
    if kind == "jsonl":
        lines = (
            json.dumps(row, ensure_ascii=False, default=_jsonable) for row in table.to_pylist()
        )
        return "".join(f"{line}\n" for line in lines).encode()
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getbuffer()


def _suffix(key: Key) -> str:
    return f"{key.block:06d}" if not key.generation else str(key)


def _owner(folder: URI) -> str | None:
    try:
        return str((folder / CLAIM).read_json()["run"])
    except NotFound:
        return None


def _check_owner(folder: URI, run: URI, owner: str) -> None:
    if owner != str(run):
        raise RunNameInUse(
            f"The output folder {folder} belongs to the run {owner}. Choose another folder, or "
            "give that run's name to go on with it."
        )


def _groups(table: pa.Table, columns: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Folder of a partition (``lang=en/``) and its rows, by folder's name."""
    groups: dict[str, list[int]] = {}
    values = zip(*(table.column(name).to_pylist() for name in columns), strict=True)
    for row, parts in enumerate(values):
        pairs = zip(columns, parts, strict=True)
        folder = "".join(f"{quote(name)}={_folder_value(value)}/" for name, value in pairs)
        groups.setdefault(folder, []).append(row)
    yield from sorted(groups.items())


def _folder_value(value: Any) -> str:
    # What Hive writes where there is no value
    return "__HIVE_DEFAULT_PARTITION__" if value is None or value == "" else quote(str(value), "")


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return value.tolist() if hasattr(value, "tolist") else str(value)
