"""Delta and Iceberg tables: what they list is read, what they have deleted is refused."""

from __future__ import annotations

import base64
import json
import string
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from source_files import everything, put

from eksml.batches.sources import delta, iceberg, source_of
from eksml.errors import InvalidSpec
from eksml.storage import URI

FIRST = {"id": [1, 2, 3], "lang": ["en", "a b", None]}


@pytest.fixture
def delta_table(tmp_path: Path) -> Path:
    """A partitioned table that was written to twice, and lost its first rows in between."""
    from deltalake import write_deltalake

    folder = tmp_path / "delta"
    write_deltalake(folder, pa.table({"id": [9], "lang": ["en"]}), partition_by=["lang"])
    write_deltalake(folder, pa.table(FIRST), mode="overwrite")
    later = pa.table({"id": [4], "lang": ["de"], "words": [7]})
    write_deltalake(folder, later, mode="append", schema_mode="merge")
    return folder


def test_a_delta_table_is_read_as_its_log_says(delta_table: Path, root: URI) -> None:
    source = source_of(str(put(delta_table, root)))
    assert source.describe() == {"kind": "delta", "path": [str(root)]}
    rows = everything(source).select(["id", "lang", "words"]).sort_by("id").to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert [row["lang"] for row in rows] == ["en", "a b", None, "de"]
    assert [row["words"] for row in rows] == [None, None, None, 7]


def test_a_delta_tables_partitions_rule_out_files(delta_table: Path) -> None:
    source = delta(delta_table, columns=["id"], filter=[("lang", "in", ["de", "a b"])])
    assert len(source.inventory().pieces) == 2
    assert sorted(everything(source)["id"].to_pylist()) == [2, 4]


def change_delta(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change every action of a table's log."""
    for path in (folder / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for action in actions:
            change(action)
        path.write_text("\n".join(map(json.dumps, actions)))


def bitmap_of_zero() -> str:
    """A deletion vector of row 0, as Delta's protocol writes it into the log: a magic number and a
    Roaring bitmap of one array container, in the letters of ZeroMQ's base 85."""
    bitmap = struct.pack("<IQIIIHHIHxx", 1681511377, 1, 0, 12346, 1, 0, 0, 16, 0)
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    python = digits + "!#$%&()*+-;<=>?@^_`{|}~"
    zeromq = string.digits + string.ascii_lowercase + string.ascii_uppercase
    zeromq += ".-:+=^!/*?&<>()[]{}@%$#"
    return base64.b85encode(bitmap).decode().translate(str.maketrans(python, zeromq))


def test_delta_tables_with_deletion_vectors_are_refused(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(tmp_path, pa.table({"id": [1, 2]}))

    def delete_the_first_row(action: dict[str, Any]) -> None:
        if "protocol" in action:
            feature = ["deletionVectors"]
            action["protocol"] = {"minReaderVersion": 3, "minWriterVersion": 7}
            action["protocol"] |= {"readerFeatures": feature, "writerFeatures": feature}
        if "add" in action:
            vector = {"storageType": "i", "pathOrInlineDv": bitmap_of_zero(), "sizeInBytes": 34}
            action["add"]["deletionVector"] = vector | {"cardinality": 1}

    change_delta(tmp_path, delete_the_first_row)
    with pytest.raises(InvalidSpec, match="deletion vectors"):
        delta(tmp_path).inventory()


def test_delta_tables_that_rename_columns_are_refused(tmp_path: Path) -> None:
    from deltalake import write_deltalake

    write_deltalake(tmp_path, pa.table({"id": [1, 2]}))

    def rename(action: dict[str, Any]) -> None:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            schema = json.loads(action["metaData"]["schemaString"])
            names = {"delta.columnMapping.id": 1, "delta.columnMapping.physicalName": "col-1"}
            schema["fields"][0]["metadata"] = names
            action["metaData"]["schemaString"] = json.dumps(schema)

    change_delta(tmp_path, rename)
    with pytest.raises(InvalidSpec, match="renames columns"):
        delta(tmp_path).inventory()


def test_a_folder_that_is_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="no Delta table"):
        delta(tmp_path).inventory()
    with pytest.raises(InvalidSpec, match="no Iceberg table"):
        iceberg(tmp_path).inventory()
    with pytest.raises(InvalidSpec, match="a table is one folder"):
        delta([str(tmp_path), str(tmp_path / "other")])  # type: ignore[arg-type]


@pytest.fixture
def iceberg_table(root: URI, s3_server: Any, tmp_path: Path) -> Any:
    """A table, a column of which was renamed, and one added, before the second write."""
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.types import LongType

    if root.scheme == "file":
        root.path.mkdir()
    warehouse = f"file://{root}" if root.scheme == "file" else str(root)
    endpoint = {"s3.endpoint": s3_server.endpoint, "s3.region": "us-east-1"}
    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/c.db", warehouse=warehouse, **endpoint)
    catalog.create_namespace("n")
    first = pa.table(FIRST)
    table = catalog.create_table("n.t", schema=first.schema)
    table.append(first)
    with table.update_schema() as update:
        update.rename_column("lang", "language")
        update.add_column("words", LongType())
    table.append(pa.table({"id": [4], "language": ["de"], "words": [7]}))
    return table


def test_an_iceberg_table_is_read_with_its_columns_as_they_are_called_now(iceberg_table) -> None:
    folder = iceberg_table.location().removeprefix("file://")
    source = source_of(folder)
    assert source.describe() == {"kind": "iceberg", "path": [folder]}
    rows = everything(source).select(["id", "language", "words"]).sort_by("id").to_pylist()
    assert [row["id"] for row in rows] == [1, 2, 3, 4]
    assert [row["language"] for row in rows] == ["en", "a b", None, "de"]
    assert [row["words"] for row in rows] == [None, None, None, 7]
    found = iceberg(folder, columns=["id"], filter=[("language", "in", ["a b", "xx"])])
    assert len(found.inventory().pieces) == 1
    assert everything(found)["id"].to_pylist() == [2]


def test_an_iceberg_tables_older_state_is_named_by_its_metadata(iceberg_table) -> None:
    older = iceberg_table.metadata.metadata_log[1].metadata_file
    source = source_of(older)
    assert source.inventory().schema.names == ["id", "lang"]
    assert everything(source)["lang"].to_pylist() == ["en", "a b", None]


def test_iceberg_tables_with_delete_files_are_refused(tmp_path: Path) -> None:
    from eksml.batches.sources.iceberg import _files

    class Task:
        delete_files = ("s3://bucket/deleted.parquet",)

        class file:
            file_path = "s3://bucket/data.orc"
            file_size_in_bytes = 5

            class file_format:
                value = "ORC"

    with pytest.raises(InvalidSpec) as caught:
        _files([Task()])
    assert "data.orc: has rows that a delete file deletes" in str(caught.value)
    assert "data.orc: is of the format ORC" in str(caught.value)
