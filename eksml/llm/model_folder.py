"""Where a model's files are: a folder, a folder in S3 that is fetched once a node, or a hub."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from eksml import env
from eksml.errors import Damaged, NotFound, Problem, StorageUnavailable
from eksml.storage import URI, arrow_filesystem

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
INDEX = "model.safetensors.index.json"
NEVER = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5", ".gguf", ".onnx", ".tflite")
"""Files that are not fetched: other forms of the weights, some of which run code when loaded."""
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FETCHERS = 8

Files = dict[str, str]
"""Name inside the folder → size, and in S3 the time of the last change."""


def files_of(source: str) -> Files | None:
    """What lies in a model's or adapter's folder; None for a name on a hub.

    Raises:
        NotFound, AccessDenied, StorageUnavailable: The folder is not there or cannot be listed.
    """
    if not is_place(source):
        return None
    place = URI.parse(source)
    found = dict(_remote(place) if place.scheme == "s3" else _local(place))
    if not found:
        raise NotFound(f"There is no folder {source}, or it is empty.")
    return found


def is_place(source: str) -> bool:
    """Whether it is a folder, here or in S3; else it is a name on a hub."""
    looks = source.startswith(("/", ".", "~")) or "://" in source
    return looks or Path(source).is_dir() or not _HUB_NAME.fullmatch(source)


def model_problems(source: str, files: Files) -> Iterator[Problem]:
    """What a model's folder lacks."""
    if "config.json" not in files:
        yield Problem("source", f"{source} has no config.json.", "Give a folder of transformers'.")
    if not any(name in files for name in TOKENIZERS):
        what = f"{source} has no tokenizer ({', '.join(TOKENIZERS)})."
        yield Problem("source", what, "Save it there: tokenizer.save_pretrained(folder).")
    if not any(name.endswith(".safetensors") for name in files):
        remedy = "Save it there: model.save_pretrained(folder)."
        yield Problem("source", f"{source} has no weights in safetensors files.", remedy)
    elif missing := [name for name in _named_shards(source, files) if name not in files]:
        what = f"{source} lacks {len(missing)} files that {INDEX} names, {missing[0]} first."
        yield Problem("source", what, "Copy the whole folder.")
    for name, size in files.items():
        if name.endswith((".json", ".safetensors")) and size.split("@")[0] == "0":
            yield Problem("source", f"{source}/{name} is empty.", "Copy it again.")


def adapter_problems(name: str, source: str) -> Iterator[Problem]:
    """What a LoRA adapter's folder lacks."""
    path = f"adapters.{name}"
    files = files_of(source) if is_place(source) else None
    if files is None:
        yield Problem(path, f"{source!r} is no folder.", "Give a folder, here or in S3.")
        return
    for needed in ("adapter_config.json", "adapter_model.safetensors"):
        if needed not in files:
            yield Problem(path, f"{source} has no {needed}.", "Save it with peft.")


def read_json(source: str, name: str) -> dict[str, Any]:
    """A JSON file in a model's folder; empty if it is not there.

    Raises:
        Damaged: It is no JSON.
    """
    try:
        found = (URI.parse(source) / name).read_json()
    except NotFound:
        return {}
    return dict(found) if isinstance(found, Mapping) else {}


def fetch(source: str) -> str:
    """The model as vLLM takes it: a local folder, or a name on a hub as it is.

    A folder in S3 is copied to ``$EKSML_HOME/models`` once a node, whole or not at all, and the
    size of each file is checked. It is copied anew when a file there has changed.

    Raises:
        NotFound, AccessDenied, StorageUnavailable: It cannot be read.
        Damaged: A file arrived with another size.
    """
    if not is_place(source):
        return source
    place = URI.parse(source)
    if place.scheme == "file":
        return str(place)
    files = files_of(source)
    assert files is not None
    identity = hashlib.sha256(json.dumps([str(place), files], sort_keys=True).encode())
    folder = env.HOME() / "models" / f"{place.name or place.bucket}-{identity.hexdigest()[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of one node: one fetches, the others wait
        if not folder.is_dir():
            _fetch(place, files, folder)
    return str(folder)


def _fetch(place: URI, files: Files, folder: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in files:
            (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(_FETCHERS) as pool:
            for copied in [pool.submit(_copy, place / name, fresh / name) for name in files]:
                copied.result()
        for name, size in files.items():
            if (there := (fresh / name).stat().st_size) != int(size.split("@")[0]):
                told = f"{place / name} arrived with {there:,} bytes instead of {size}."
                raise Damaged(f"{told} It may have been replaced meanwhile; try again.")
        os.rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _copy(file: URI, target: Path) -> None:
    path, filesystem = arrow_filesystem(file)
    try:
        with filesystem.open_input_stream(path) as source, open(target, "wb") as sink:
            shutil.copyfileobj(source, sink, 8 << 20)
    except FileNotFoundError as error:
        raise NotFound(f"{file} is gone since the folder was listed.") from error
    except OSError as error:
        raise StorageUnavailable(f"{file} could not be fetched to {target}: {error}.") from error


def _local(place: URI) -> Iterator[tuple[str, str]]:
    for stat in place.list(recursive=True):
        yield stat.uri.relative_to(place), str(stat.size)


def _remote(place: URI) -> Iterator[tuple[str, str]]:
    from pyarrow.fs import FileSelector, FileType

    place.store.scan(place, recursive=False)  # tells a missing bucket and missing rights properly
    path, filesystem = arrow_filesystem(place)
    selector = FileSelector(path, recursive=True, allow_not_found=True)
    for found in filesystem.get_file_info(selector):
        name = found.path.removeprefix(path.rstrip("/") + "/")
        if found.type == FileType.File and not name.endswith(NEVER):
            # Two trainings of one model have the same sizes
            yield name, f"{found.size}@{found.mtime_ns}"


def _named_shards(source: str, files: Files) -> list[str]:
    if INDEX not in files:
        return []
    return sorted(set(read_json(source, INDEX).get("weight_map", {}).values()))
