"""Datasets that Hugging Face's library has written: Arrow files in a folder, with their list."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from eksml.batches.blocks import Piece
from eksml.batches.sources.base import Inventory
from eksml.batches.sources.files import Files, Path
from eksml.batches.sources.parallel import look_into
from eksml.batches.sources.reading import opened
from eksml.batches.sources.schemas import check_names, plain, unified
from eksml.batches.sources.selected import marked
from eksml.errors import Damaged, InvalidSpec, NotFound, Problem
from eksml.storage import URI, Stat

if TYPE_CHECKING:
    import pyarrow as pa

_INDICES = 64


def huggingface(path: Path) -> HuggingFace:
    """Rows of a dataset that ``Dataset.save_to_disk`` has written; needs no ``datasets``.

    The format has no index: where its batches lie is found by going through a file once in each
    process that reads it. That is nothing on a disk, and one more reading of the file on S3.

    Args:
        path: The folder with ``state.json``; one split of a ``DatasetDict``. Local or ``s3://``.

    Raises:
        InvalidSpec: The path is wrong.
    """
    return HuggingFace(**dict[str, Any](path=path))


class HuggingFace(Files):
    """See ``huggingface``."""

    kind: ClassVar[str] = "huggingface"
    endings: ClassVar[tuple[str, ...]] = (".arrow",)

    def files(self) -> list[Stat]:
        """The files that each folder's list names, in its order."""
        return [file for folder in self.path for file in _listed(URI.parse(folder))]

    def inventory(self) -> Inventory:
        """Finds the batches of each file, sixteen files at a time."""
        files = self.files()
        found = look_into(files, lambda file: _index(str(file.uri), file.size))
        schemas = [(str(f.uri), plain(each.schema)) for f, each in zip(files, found, strict=True)]
        problems = check_names(*(schemas[0][0], schemas[0][1].names)) if schemas else []
        rows = [each.firsts[-1] for each in found]
        if not any(rows):
            problems.append(Problem("path", "the dataset has no row.", "Check the path."))
        if problems:
            raise InvalidSpec(problems, "the huggingface source")
        pieces = [
            Piece(str(file.uri), file.size, 0, count, count)
            for file, count in zip(files, rows, strict=True)
            if count
        ]
        return Inventory(tuple(pieces), unified(schemas), "rows")

    def read(self, piece: Piece) -> pa.Table:
        import numpy as np
        import pyarrow as pa

        index = _index(piece.file, piece.size)
        batches, first = list[Any](), 0
        with _mapped(piece.file, piece.size) as stream:
            for number, offset in enumerate(index.offsets):
                begin, end = index.firsts[number], index.firsts[number + 1]
                if begin < piece.stop and end > piece.start:
                    first = begin if not batches else first
                    stream.seek(offset)
                    message = pa.ipc.read_message(stream)
                    batches.append(pa.ipc.read_record_batch(message, index.schema))
        table = pa.Table.from_batches(batches, index.schema)
        table = table.slice(piece.start - first, piece.stop - piece.start)
        table = table.replace_schema_metadata(None).cast(plain(index.schema))
        return marked(table, piece.file, np.arange(piece.start, piece.stop))


@dataclass(frozen=True)
class _Index:
    schema: pa.Schema
    offsets: tuple[int, ...]
    """Where each batch begins, in bytes."""
    firsts: tuple[int, ...]
    """The number of each batch's first row, and of the row behind the last."""


def _listed(folder: URI) -> Iterator[Stat]:
    """The files of one split.

    Raises:
        InvalidSpec: The folder holds no dataset, or several splits.
    """
    try:
        names = [each["filename"] for each in (folder / "state.json").read_json()["_data_files"]]
    except NotFound:
        raise InvalidSpec(
            [Problem("path", *_no_dataset(folder))], "the huggingface source"
        ) from None
    except (KeyError, TypeError) as error:
        raise Damaged(
            f"{folder}/state.json names no data files. Save the dataset again."
        ) from error
    for name in names:
        stat = (folder / name).stat()
        if stat is None:
            raise NotFound(f"There is no file {folder / name}, which state.json names.")
        yield stat


def _no_dataset(folder: URI) -> tuple[str, str]:
    try:
        splits = (folder / "dataset_dict.json").read_json()["splits"]
    except (NotFound, KeyError, TypeError):
        told = f"there is no state.json in {folder}."
        return told, "Give a folder that Dataset.save_to_disk has written."
    named = ", ".join(str(folder / split) for split in splits)
    return f"{folder} holds several splits.", f"Name one or more of them: {named}."


@functools.lru_cache(maxsize=_INDICES)
def _index(file: str, size: int) -> _Index:
    import pyarrow as pa

    with _mapped(file, size) as stream:
        schema = pa.ipc.read_schema(stream)
        offsets, firsts = list[int](), [0]
        while True:
            offset = stream.tell()
            try:
                message = pa.ipc.read_message(stream)
            except EOFError:
                break
            if message.type != "record batch":
                raise Damaged(
                    f"{file} holds a {message.type}: columns with dictionaries cannot be read in "
                    "parts. Save the dataset as Parquet."
                )
            offsets.append(offset)
            firsts.append(firsts[-1] + pa.ipc.read_record_batch(message, schema).num_rows)
    return _Index(schema, tuple(offsets), tuple(firsts))


@contextmanager
def _mapped(file: str, size: int) -> Iterator[Any]:
    """The file, on a disk mapped into memory, so that what is passed over is not read."""
    import pyarrow as pa

    with opened(file, size) as stream:
        uri = URI.parse(file)
        if uri.scheme != "file":
            yield stream
            return
        with pa.memory_map(uri.key) as mapped:
            yield mapped
