"""Every kind of input, on a disk and on S3: found by its path, described, read, whole."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image
from source_files import everything, put

from eksml.batches.blocks import ERROR, FILE, PLACE
from eksml.batches.sources import source_of
from eksml.errors import Damaged
from eksml.storage import URI

ROWS = [{"id": index, "text": f"row {index}"} for index in range(10)]
PDF = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R
/Resources<</Font<</F 5 0 R>>>>>>endobj
4 0 obj<</Length 41>>stream
BT /F 12 Tf 20 100 Td (Hello page) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R>>
startxref
0
%%EOF
"""


def write_parquet(folder: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS[:6]), folder / "a.parquet", row_group_size=2)
    pq.write_table(pa.Table.from_pylist(ROWS[6:]), folder / "b.parquet")
    (folder / "_SUCCESS").write_bytes(b"")


def write_jsonl(folder: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    (folder / "a.jsonl").write_text("\n".join(lines[:6]))
    (folder / "b.jsonl").write_text("\n".join(lines[6:]) + "\n\n")


def write_gzip(folder: Path) -> None:
    data = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(data.encode()))


def write_csv(folder: Path) -> None:
    lines = [f'{row["id"]},"{row["text"]}"' for row in ROWS]
    (folder / "a.csv").write_text("\r\n".join(["id,text", *lines[:6]]) + "\r\n")
    (folder / "b.csv").write_text("\n".join(["id,text", *lines[6:]]))


def write_text(folder: Path) -> None:
    (folder / "a.txt").write_text("".join(row["text"] + "\n" for row in ROWS))


def write_images(folder: Path) -> None:
    for index in range(10):
        Image.new("RGB", (4, 3), (index, 0, 0)).save(folder / f"{index}.png")


def write_audio(folder: Path) -> None:
    for index in range(10):
        soundfile.write(folder / f"{index}.wav", np.full((80, 2), index / 16), 8000)


def write_documents(folder: Path) -> None:
    (folder / "a.html").write_text("<p>Hello page</p><script>no()</script>")
    (folder / "b.md").write_text("Hello page")
    (folder / "c.pdf").write_bytes(PDF)


def write_huggingface(folder: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(folder, num_shards=2)


KINDS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "parquet": (write_parquet, ["id", "text"], "rows"),
    "jsonl": (write_jsonl, ["id", "text"], "bytes"),
    "jsonl.gz": (write_gzip, ["id", "text"], "files"),
    "csv": (write_csv, ["id", "text"], "bytes"),
    "text": (write_text, ["text"], "bytes"),
    "images": (write_images, ["path", "image"], "files"),
    "audio": (write_audio, ["path", "audio", "rate_hz"], "files"),
    "documents": (write_documents, ["path", "page", "chunk", "text"], "files"),
    "huggingface": (write_huggingface, ["id", "text"], "rows"),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def folder(kind: str, root: URI, tmp_path: Path) -> URI:
    made = tmp_path / "made"
    made.mkdir()
    KINDS[kind][0](made)
    return put(made, root)


def test_a_folder_is_known_by_what_is_in_it_and_read_whole(kind: str, folder: URI) -> None:
    source = source_of(str(folder))
    assert source.describe()["kind"] == kind.removesuffix(".gz")
    inventory = source.inventory()
    assert inventory.unit == KINDS[kind][2]
    table = everything(source)
    assert table.column_names[: len(inventory.schema)] == KINDS[kind][1] == inventory.schema.names
    assert table.select(inventory.schema.names).schema == inventory.schema
    check_values(kind, table)
    if ERROR in table.column_names:
        assert table[ERROR].null_count == table.num_rows
    keys = list(zip(table[FILE].to_pylist(), table[PLACE].to_pylist(), strict=True))
    assert len(set(keys)) == len(keys)
    assert {file for file, _ in keys} == {piece.file for piece in inventory.pieces}


def check_values(kind: str, table: pa.Table) -> None:
    if "id" in table.column_names:
        assert table.select(["id", "text"]).to_pylist() == ROWS
    elif kind == "text":
        assert table["text"].to_pylist() == [row["text"] for row in ROWS]
    elif kind == "images":
        corners = [image[2][3] for image in table["image"].to_pylist()]
        assert corners == [[index, 0, 0] for index in range(10)]
    elif kind == "audio":
        samples = [wave[40] for wave in table["audio"].to_pylist()]
        assert samples == pytest.approx([index / 16 for index in range(10)], abs=1e-4)
        assert set(table["rate_hz"].to_pylist()) == {8000}
    else:
        assert table["text"].to_pylist() == ["Hello page"] * 3
        assert table["page"].to_pylist() == [None, None, 1]


def test_what_was_found_travels_with_the_source(kind: str, folder: URI) -> None:
    source = source_of(str(folder))
    pieces = source.inventory().pieces
    travelled = pickle.loads(pickle.dumps(source))
    fresh = source_of(str(folder))
    for piece in pieces:
        assert travelled.read(piece).equals(source.read(piece))
        assert fresh.read(piece).equals(source.read(piece))


def test_a_description_is_json_and_tells_sources_apart(kind: str, folder: URI) -> None:
    told = source_of(str(folder)).describe()
    assert json.loads(json.dumps(told)) == told == source_of([str(folder)]).describe()
    assert told["path"] == [str(folder)]


def test_a_file_that_has_changed_is_damaged(kind: str, folder: URI) -> None:

    source = source_of(str(folder))
    piece = source.inventory().pieces[-1]
    changed = URI.parse(piece.file)
    changed.write_bytes(changed.read_bytes() + b" ")
    with pytest.raises(Damaged, match="the input has changed"):
        source.read(piece)
