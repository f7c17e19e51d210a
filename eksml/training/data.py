"""The ``data`` of ``eksml.train``: Ray datasets, or how to get them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from eksml.errors import InvalidSpec, Problem

READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".txt": "read_text",
    ".npy": "read_numpy",
}


def named(data: Any) -> dict[str, Any]:
    """The data by name; a single one is called ``train``.

    Raises:
        InvalidSpec: Something is no dataset, path or function.
    """
    given = dict(data) if isinstance(data, Mapping) else {"train": data} if data is not None else {}
    problems = [
        Problem(f"data.{name}", f"a {type(value).__name__} is no data.", _REMEDY)
        for name, value in given.items()
        if not (isinstance(value, (str, os.PathLike)) or callable(value) or _is_dataset(value))
    ]
    problems += [
        Problem(f"data.{name}", f"{str(value)!r} has none of the endings {', '.join(READERS)}.")
        for name, value in given.items()
        if isinstance(value, (str, os.PathLike)) and _ending(value) not in READERS
    ]
    if problems:
        raise InvalidSpec(problems, "the data")
    return given


_REMEDY = "Give a ray.data.Dataset, a path such as s3://bucket/train.parquet, or a function."


def datasets_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The Ray datasets; called where Ray is connected."""
    return {name: _dataset(value) for name, value in data.items()}


def _dataset(value: Any) -> Any:
    import ray.data

    if isinstance(value, (str, os.PathLike)):
        read: Callable[[str], Any] = getattr(ray.data, READERS[_ending(value)])
        return read(os.fspath(value))
    return value if _is_dataset(value) else value()


def _ending(path: str | os.PathLike[str]) -> str:
    return PurePosixPath(os.fspath(path)).suffix.lower()


def _is_dataset(value: Any) -> bool:
    return hasattr(value, "iter_batches") and hasattr(value, "schema")
