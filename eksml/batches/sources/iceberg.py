"""Iceberg tables, as they are when the run is planned; without a catalogue."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

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

if TYPE_CHECKING:
    import pyarrow as pa

_NUMBER = re.compile(r"v?(\d+)(?:-[^/]*)?(?:\.gz)?\.metadata\.json")


def iceberg(
    path: Path, columns: Sequence[str] | None = None, filter: Conditions | None = None
) -> Iceberg:
    """Rows of an Iceberg table, read as ``parquet`` reads; renamed columns are found by number.

    Args:
        path: The table's folder, for its newest metadata, or one ``…metadata.json``, for that
            state of it; local or ``s3://``.
        columns: Those to read; all if None.
        filter: Conditions, as ``filters`` describes; files that the table's own statistics rule
            out are not opened.

    Raises:
        InvalidSpec: An argument is wrong.
    """
    return Iceberg(**dict[str, Any](path=path, columns=columns, filter=filter))


class Iceberg(Listed):
    """See ``iceberg``."""

    kind: ClassVar[str] = "iceberg"
    endings: ClassVar[tuple[str, ...]] = (".parquet",)

    def inventory(self) -> Inventory:
        """Reads the table's metadata and the footers of the files that it lists.

        Tables with deleted rows that are not yet rewritten, or files other than Parquet, are
        refused."""
        table = self._table()
        everything = table.schema().as_arrow()
        schema = self.choose([(self.path[0], plain(everything))])
        numbered = [everything.field(each.name).metadata for each in self._types]
        self._types = _with_metadata(self._types, numbered)
        files = _files(_tasks(table, self.filter))
        pieces = look_into(files, lambda file: piece_of(file, self._types, self.filter))
        return Inventory(some(pieces, self), schema, "rows")

    def _table(self) -> Any:
        location = _metadata_of(URI.parse(self.path[0]))
        static = library("pyiceberg.table", "iceberg").StaticTable
        try:
            return static.from_metadata(str(location), s3_properties())
        except (ValueError, KeyError, OSError) as error:
            raise Damaged(f"{location} cannot be read: {first_line(error)}") from error


def _metadata_of(place: URI) -> URI:
    """The newest metadata in a table's folder, or the file that is named.

    Raises:
        InvalidSpec: There is none.
    """
    if place.name.endswith(".metadata.json"):
        return place
    found = [
        (int(match[1]), stat.uri)
        for stat in (place / "metadata").list()
        if (match := _NUMBER.fullmatch(stat.uri.name))
    ]
    if not found:
        told = f"there is no Iceberg table at {place}: no metadata/*.metadata.json."
        raise InvalidSpec([Problem("path", told, "Give the table's folder.")], "the iceberg source")
    return max(found)[1]


def _tasks(table: Any, filter: Any) -> list[Any]:
    from pyiceberg.expressions import AlwaysTrue

    try:
        scan = table.scan(row_filter=_expression(filter) if filter else AlwaysTrue())
        return list(scan.plan_files())
    except (ValueError, TypeError, OSError) as error:
        raise Damaged(
            f"{table.metadata_location} cannot be planned: {first_line(error)}"
        ) from error


def _files(tasks: list[Any]) -> list[Stat]:
    from pyiceberg.manifest import FileFormat

    problems = list[Problem]()
    for task in tasks:
        if task.delete_files:
            told = "has rows that a delete file deletes, which cannot be read here."
            remedy = "Rewrite the table's data files first (rewrite_data_files)."
            problems.append(Problem(task.file.file_path, told, remedy))
        if task.file.file_format != FileFormat.PARQUET:
            told = f"is of the format {task.file.file_format.value}."
            problems.append(Problem(task.file.file_path, told, "Rewrite the table as Parquet."))
    if problems:
        raise InvalidSpec(few(problems), "the iceberg source")
    files = (
        Stat(_place_of(task.file.file_path), task.file.file_size_in_bytes, 0.0) for task in tasks
    )
    return sorted(set(files))


def _place_of(path: str) -> URI:
    """Hadoop's writers call S3 by other names."""
    return URI.parse(re.sub(r"^s3[an]://", "s3://", path))


def _with_metadata(schema: pa.Schema, metadata: Sequence[Any]) -> pa.Schema:
    import pyarrow as pa

    pairs = zip(schema, metadata, strict=True)
    return pa.schema([field.with_metadata(own) for field, own in pairs])


def _expression(filter: Any) -> Any:
    from pyiceberg import expressions as ice

    comparisons = {
        "=": ice.EqualTo,
        "==": ice.EqualTo,
        "!=": ice.NotEqualTo,
        "<": ice.LessThan,
        "<=": ice.LessThanOrEqual,
        ">": ice.GreaterThan,
        ">=": ice.GreaterThanOrEqual,
        "in": ice.In,
        "not in": ice.NotIn,
    }
    either: Any = ice.AlwaysFalse()
    for every in filter:
        both: Any = ice.AlwaysTrue()
        for name, operator, value in every:
            both = ice.And(both, comparisons[operator](name, value))
        either = ice.Or(either, both)
    return either


def s3_properties() -> dict[str, str]:
    """What the library has to be told of S3; credentials it finds by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    pairs = {"s3.endpoint": endpoint, "s3.region": region}
    return {name: value for name, value in pairs.items() if value}
