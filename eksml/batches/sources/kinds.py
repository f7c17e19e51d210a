"""What kind of source a path is, by what its files' names end with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from eksml.batches.sources.audio import Audio, audio
from eksml.batches.sources.base import Source
from eksml.batches.sources.csv import Csv, csv
from eksml.batches.sources.delta import delta
from eksml.batches.sources.documents import Documents, documents
from eksml.batches.sources.files import Paths, ending_of, listed
from eksml.batches.sources.huggingface import huggingface
from eksml.batches.sources.iceberg import iceberg
from eksml.batches.sources.images import Images, images
from eksml.batches.sources.jsonl import Jsonl, jsonl
from eksml.batches.sources.parquet import Parquet, parquet
from eksml.batches.sources.text import Text, text
from eksml.errors import InvalidSpec, Problem
from eksml.storage import URI

# Later ones give way: .txt is lines, though documents take it too
_BY_ENDING: dict[str, Callable[[Any], Source]] = {
    ending: make
    for kind, make in (
        (Documents, documents),
        (Audio, audio),
        (Images, images),
        (Text, text),
        (Csv, csv),
        (Jsonl, jsonl),
        (Parquet, parquet),
    )
    for ending in kind.endings
}
_CHOICES = (
    "Say which with eksml.batches.parquet(…), jsonl, csv, text, images, audio, documents, "
    "huggingface, delta or iceberg."
)


def source_of(data: Paths | Source) -> Source:
    """The source that ``data`` is: a source itself, or what a path's files are by their endings.

    A folder with ``_delta_log`` is a Delta table, one with ``metadata/*.metadata.json`` an Iceberg
    table, one with ``state.json`` and ``dataset_info.json`` a dataset of Hugging Face's.

    Raises:
        InvalidSpec: It is nothing of this, there is no file, or there are several kinds.
        NotFound, AccessDenied, StorageUnavailable: The place cannot be listed.
    """
    if all(hasattr(data, name) for name in ("describe", "inventory", "read")):
        return data  # type: ignore[return-value]
    paths: list[Any] = list(data) if isinstance(data, list | tuple) else [data]
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        told = f"{data!r:.80} is no path or source." if paths else "the list is empty."
        raise _refusal(told, "Give a path, several, or a source such as eksml.batches.parquet(…).")
    if len(paths) == 1 and (make := _table(os.fspath(paths[0]))):
        return make(paths[0])
    endings = Counter(ending for path in paths for ending in _endings(os.fspath(path)))
    if not endings:
        told = f"there is no file at {', '.join(map(str, paths))}."
        raise _refusal(told, "Correct the path, or write the files first.")
    makers = {_BY_ENDING.get(ending) for ending in endings}
    make = makers.pop()
    if makers or make is None:
        counted = ", ".join(
            f"{count} {ending or 'without ending'}" for ending, count in endings.most_common(8)
        )
        raise _refusal(f"it cannot be told what the files are: {counted}.", _CHOICES)
    return make(data)


def _table(path: str) -> Callable[[Any], Source] | None:
    """How to read a folder that says itself what it is."""
    if "*" in path:
        return None
    folder = URI.parse(path)
    if folder.name.endswith(".metadata.json"):
        return iceberg
    if any(True for _ in (folder / "_delta_log").list()):
        return delta
    if (folder / "state.json").exists() and (folder / "dataset_info.json").exists():
        return huggingface
    if (folder / "dataset_dict.json").exists():
        return huggingface
    if any(s.uri.name.endswith(".metadata.json") for s in (folder / "metadata").list()):
        return iceberg
    return None


def _endings(path: str) -> list[str]:
    return [ending_of(stat.uri.name) for stat in listed(path)]


def _refusal(told: str, remedy: str) -> InvalidSpec:
    return InvalidSpec([Problem("data", told, remedy)], "the data")
