"""Delta tables, as they are when the run is planned."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import unquote

from eksml.batches.sources import partitions
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Path, few
from eksml.batches.sources.filters import Conditions
from eksml.batches.sources.parallel import look_into
from eksml.batches.sources.parquet import piece_of, some
from eksml.batches.sources.reading import first_line
from eksml.batches.sources.schemas import plain
from eksml.batches.sources.tables import Listed
from eksml.batches.sources.whole import library
from eksml.errors import Damaged, InvalidSpec, Problem
from eksml.storage import URI, Stat

_PLAIN = "Rewrite it without them: REORG TABLE … APPLY (PURGE), or write a copy."


def delta(
    path: Path, columns: Sequence[str] | None = None, filter: Conditions | None = None
) -> Delta:
    """Rows of a Delta table's newest version, read as ``parquet`` reads.

    Args:
        path: The table's folder; local or ``s3://``.
        columns: Those to read; all if None.
        filter: Conditions, as ``filters`` describes.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Delta(**dict[str, Any](path=path, columns=columns, filter=filter))


class Delta(Listed):
    """See ``delta``."""

    kind: ClassVar[str] = "delta"
    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def inventory(self) -> Inventory:
        """Reads the table's log and the footers of the files that it lists.

        Tables with deletion vectors or with columns under other names than in the files are
        refused."""
        import pyarrow as pa

        with _translated(self.path[0]):
            table = library("deltalake", "delta").DeltaTable(
                self.path[0], storage_options=_options()
            )
            _check(table)
            schema = self.choose([(self.path[0], plain(pa.schema(table.schema())))])
            actions = pa.table(table.get_add_actions(flatten=True)).to_pylist()
        files = _files(URI.parse(self.path[0]), actions, table.metadata().partition_columns)
        pieces = look_into(files, lambda file: piece_of(file, self._types, self.filter))
        return Inventory(some(pieces, self), schema, "rows")


def _check(table: Any) -> None:
    import pyarrow as pa

    problems = list[Problem]()
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        problems.append(Problem("path", "the table renames columns (column mapping).", _PLAIN))
    elif pa.table(table.deletion_vectors()).num_rows:
        problems.append(Problem("path", "the table has deletion vectors.", _PLAIN))
    if problems:
        raise InvalidSpec(problems, "the delta source")


def _files(folder: URI, actions: list[dict[str, Any]], keys: Sequence[str]) -> list[Stat]:
    """The table's files, by name; a file's partition is read from its folders' names."""
    files, problems = list[Stat](), list[Problem]()
    for action in actions:
        path = unquote(action["path"])
        uri = URI.parse(path) if "://" in path else folder / path
        named = partitions.values_of(str(uri))
        wrong = [
            key
            for key in keys
            if key not in named or not _same(action[f"partition.{key}"], named[key])
        ]
        if wrong:
            told = f"its folders do not name the value of {wrong[0]!r}."
            problems.append(Problem(str(uri), told, "Rewrite the table with partitioned folders."))
        files.append(Stat(uri, action["size_bytes"], 0.0))
    if problems:
        raise InvalidSpec(few(problems), "the delta source")
    return sorted(files)


def _same(value: Any, named: str | None) -> bool:
    """Whether a folder's name says what the table's log says of it."""
    import pyarrow as pa

    if value is None or named is None:
        return value is named
    known = pa.scalar(value)
    try:
        return bool(known == partitions.scalar(named, known.type))
    except pa.ArrowException:
        return False


def _options() -> dict[str, str]:
    """What the library has to be told of S3; regions and credentials it finds by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {}
    plain_http = str(endpoint.startswith("http://")).lower()
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": plain_http}


@contextmanager
def _translated(path: str) -> Iterator[None]:
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        yield
    except TableNotFoundError as error:
        problem = Problem("path", f"there is no Delta table at {path}.", "Correct the path.")
        raise InvalidSpec([problem], "the delta source") from error
    except (DeltaError, OSError) as error:
        raise Damaged(f"The Delta table {path} cannot be read: {first_line(error)}") from error
