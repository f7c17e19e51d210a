"""An Iceberg table as the reader of a run's output: one snapshot adds all of its files, at the end.

The files are written to the run's output folder, as ever, and block by block. A table's readers
see none of them before the run has succeeded, and then all. The snapshot says which run made it,
so that a driver that was killed around the commit does not add them again::

    eksml.run         s3://bucket/runs/labels
    eksml.begun       1764144000.25      two runs of one name, the first deleted, are two
    eksml.generation  0                  one more each time failed rows were tried again
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from eksml.batches.sources.iceberg import s3_properties
from eksml.batches.sources.reading import first_line
from eksml.batches.sources.whole import library
from eksml.cluster.problems import Refused, Spec
from eksml.errors import EksmlError, InvalidSpec, NotFound, Problem, StorageUnavailable
from eksml.storage import URI, arrow_filesystem

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

RUN, BEGUN, GENERATION = "eksml.run", "eksml.begun", "eksml.generation"
NOTES = "table"
"""Of the run: which generations the table has, by snapshot."""
_READERS = 32
TRIES = 10
"""Times that a commit is tried anew because others committed to the table meanwhile."""
_NAME = re.compile(r"[^.\s]+(\.[^.\s]+)+")
_SECRET = re.compile(r"secret|token|password|credential|access-key", re.IGNORECASE)
_log = logging.getLogger(__name__)


def iceberg_table(name: str, catalog: str = "default", **properties: str) -> IcebergTable:
    """A table that the output's files are added to when the run has succeeded.

    >>> table = iceberg_table("shop.labels", "glue")                          # doctest: +SKIP
    >>> eksml.batch(model, data, "s3://bucket/labels", table=table)           # doctest: +SKIP

    It is made if it is not there, in a namespace that is, and takes on columns that are new. The
    files stay where the run wrote them; they are the table's from then on.

    Args:
        name: With its namespace: ``shop.labels``.
        catalog: As PyIceberg's configuration calls it (``~/.pyiceberg.yaml``, or variables such as
            PYICEBERG_CATALOG__DEFAULT__URI); the drivers of a cluster need it, too.
        properties: Of the catalog, instead or beside: ``type="glue"``, ``uri="http://…"``,
            ``warehouse="s3://…"``. Secrets belong into the environment.

    Raises:
        InvalidSpec: With everything that is wrong.
    """
    return IcebergTable(name=name, catalog=catalog, properties=dict(properties))


class IcebergTable(Spec):
    """See ``iceberg_table``."""

    name: str
    """With its namespace."""
    catalog: str = Field(default="default", min_length=1)
    """The catalog's name in PyIceberg's configuration."""
    properties: dict[str, str] = Field(default_factory=dict)
    """Of the catalog."""

    def model_post_init(self, context: object) -> None:
        if problems := list(self._static_problems()):
            raise Refused(problems)

    def describe(self) -> dict[str, str]:
        """Which table it is, as JSON."""
        return {"name": self.name, "catalog": self.catalog}

    def problems(self) -> list[Problem]:
        """What stands in the way, seen from here: the library, the catalog, the namespace, a table
        that is partitioned."""
        try:
            catalog = self._opened()
            table = self._table(catalog)
            if table is None and not catalog.namespace_exists(self.name.rpartition(".")[0]):
                told = f"the catalog {self.catalog!r} has no namespace for {self.name}."
                return [Problem("table", told, "Create it there first.")]
        except Exception as error:  # whatever a catalog's client raises: network, HTTP, SQL
            told = f"the catalog {self.catalog!r} cannot be used: {_told(error)}."
            return [Problem("table", told, "Check PyIceberg's configuration and the properties.")]
        if table is not None and table.spec().fields:
            told = f"{self.name} is partitioned, and a block's rows are of many partitions."
            return [Problem("table", told, "Use a table without partitions.")]
        return []

    def check_file(self, file: URI) -> None:
        """See whether the table can take a file like this, while little is computed.

        Raises:
            InvalidSpec: A column's type is another than the table's, or one that Iceberg lacks.
        """
        table = self._table(self._opened())
        if table is None:
            return
        from pyiceberg.exceptions import ValidationError

        try:
            with table.transaction().update_schema() as update:  # staged, never committed
                update.union_by_name(_schema_of(file))
        except (ValidationError, ValueError, TypeError) as error:
            raise InvalidSpec([Problem("table", self._mismatch(error))], "the results") from error

    def add(self, run: URI, begun_s: float, files: Mapping[int, list[URI]]) -> int | None:
        """Add the output's files in one snapshot, those that the table has not from this run.

        Args:
            run: Names the snapshot.
            begun_s: When the run was created.
            files: Generation → files, of all that is done.

        Returns:
            The snapshot's id; of the run's last one where nothing is left to add, None without one.

        Raises:
            InvalidSpec: The files do not go with the table.
            StorageUnavailable: The catalog cannot be used, or others commit all the time.
        """
        newest = max(files, default=0)
        mark = {RUN: str(run), BEGUN: repr(begun_s), GENERATION: str(newest)}
        try:
            snapshot = self._added(_noted(run), mark, files)
        except EksmlError:
            raise
        except Exception as error:  # whatever a catalog's client raises: network, HTTP, SQL
            raise StorageUnavailable(
                f"The files could not be added to {self.name}: {_told(error)}. Call again with the "
                "run's name: nothing is computed twice."
            ) from error
        if snapshot is not None:
            (run / NOTES / f"{newest:06d}.json").write_json({"snapshot_id": snapshot})
        return snapshot

    def _added(
        self, known: tuple[int, int | None], mark: dict[str, str], files: Mapping[int, list[URI]]
    ) -> int | None:
        from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException

        if not any(files.values()):
            return known[1]
        for attempt in range(TRIES):
            table = self._made(files)
            last, snapshot = max(known, _committed(table, mark), key=lambda found: found[0])
            new = [str(file) for number in sorted(files) if number > last for file in files[number]]
            if not new:
                return snapshot
            try:
                return self._append(table, new, mark)
            except (CommitFailedException, CommitStateUnknownException) as error:
                _log.info("%s is committed to by others: %s", self.name, first_line(error))
            time.sleep(random.uniform(0, 0.1 * 2 ** min(attempt, 6)))
        raise StorageUnavailable(
            f"{self.name} changed {TRIES} times while this run's files were to be added. "
            "Call again with the run's name: nothing is computed twice."
        )

    def _append(self, table: Table, files: list[str], mark: dict[str, str]) -> int:
        import pyarrow as pa

        # The library would try again by itself, without looking whether a rival of this very run
        # was faster
        known = table.metadata.properties
        once = {"properties": {**known, "commit.retry.num-retries": "0"}}
        table.metadata = table.metadata.model_copy(update=once)
        try:
            with table.transaction() as change:
                with change.update_schema() as update:
                    for schema in _schemas(files):
                        update.union_by_name(schema)
                change.add_files(files, snapshot_properties=mark, check_duplicate_files=False)
        except (ValueError, TypeError, pa.ArrowException, *_refusals()) as error:
            raise InvalidSpec([Problem("table", self._mismatch(error))], "the results") from error
        made = table.metadata.current_snapshot_id
        assert made is not None
        return made

    def _made(self, files: Mapping[int, list[URI]]) -> Table:
        """The table, made unless it is there."""
        catalog = self._opened()
        if (table := self._table(catalog)) is not None:
            return table
        first = next(file for number in sorted(files) for file in files[number])
        return catalog.create_table_if_not_exists(self.name, schema=_schema_of(first))

    def _table(self, catalog: Catalog) -> Table | None:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            return catalog.load_table(self.name)
        except NoSuchTableError:
            return None

    def _opened(self) -> Catalog:
        made: Callable[..., Catalog] = library("pyiceberg.catalog", "iceberg").load_catalog
        return made(self.catalog, **{**s3_properties(), **self.properties})

    def _mismatch(self, error: Exception) -> str:
        return f"{self.name} cannot take the output's files: {_told(error)}."

    def _static_problems(self) -> Iterator[Problem]:
        if not _NAME.fullmatch(self.name):
            told = f"{self.name!r} is no table's name."
            yield Problem("name", told, "Write namespace.table.")
        for name, value in self.properties.items():
            if _SECRET.search(name) or urlsplit(value).password:
                variable = f"PYICEBERG_CATALOG__{self.catalog}__{name}".upper().replace("-", "_")
                remedy = f"Set {variable} in the environment."
                yield Problem(f"properties.{name}", "holds a secret, which would be kept.", remedy)


def _refusals() -> tuple[type[Exception], ...]:
    from pyiceberg.exceptions import ValidationError

    return (ValidationError,)


def _noted(run: URI) -> tuple[int, int | None]:
    """What :func:`_committed` tells, of what was noted in the run: snapshots expire."""
    notes = [stat.uri for stat in (run / NOTES).list()]
    if not notes:
        return -1, None
    newest = max(notes)
    return int(newest.name.removesuffix(".json")), newest.read_json()["snapshot_id"]


def _committed(table: Table, mark: Mapping[str, str]) -> tuple[int, int | None]:
    """The newest generation of this run that the table has, -1 for none; and its snapshot."""
    found: tuple[int, int | None] = (-1, None)
    for snapshot in table.metadata.snapshots:
        said = snapshot.summary.additional_properties if snapshot.summary else {}
        if all(said.get(name) == mark[name] for name in (RUN, BEGUN)):
            found = max(found, (int(said[GENERATION]), snapshot.snapshot_id), key=lambda at: at[0])
    return found


def _schemas(files: list[str]) -> list[pa.Schema]:
    """The different ones among the files'."""
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(lambda file: _schema_of(URI.parse(file)), files)
        return list(dict.fromkeys(found))


def _schema_of(file: URI) -> pa.Schema:
    import pyarrow.parquet as pq

    path, filesystem = arrow_filesystem(file)
    try:
        return pq.read_schema(path, filesystem=filesystem).remove_metadata()
    except FileNotFoundError as error:
        raise NotFound(f"{file}, a file of the output, is gone.") from error


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}".rstrip(".")
