"""A set of files that is there as a whole or not at all: parts first, then one manifest.

A set lies in a folder of its own::

    step-000050/weights-0.4be1a9c2f00d.safetensors      a part
    step-000050/weights-1.77d05e31beef.safetensors      another, perhaps by another machine
    step-000050/manifest.json                           written last: from here on the set exists

Each write of a part has a file name of its own, so that a late or repeated writer can never change
a set that is committed. The manifest is written only where there is none: of writers that race,
one commits.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from eksml.errors import (
    AlreadyExists,
    Damaged,
    InvalidSpec,
    NotFound,
    Problem,
)
from eksml.storage.buffers import Buffer, Data, sha256_of, size_of, views_of
from eksml.storage.patience import patiently
from eksml.storage.uri import URI

MANIFEST = "manifest.json"
_FORMAT = "eksml-set-1"
_PARALLEL_PARTS = 4
_INLINE_BYTES = 2**20


@dataclass(frozen=True)
class Part:
    """One file of a set, as it was written."""

    name: str
    """What the writer called it."""
    size: int
    """Bytes."""
    sha256: str
    """Hex digest of its bytes."""
    file: str
    """Where it lies in the set's folder."""


@dataclass(frozen=True)
class Manifest:
    """What a committed set consists of."""

    parts: tuple[Part, ...]
    meta: dict[str, Any]
    """What the writer wanted to be known with the set: JSON values."""
    created_s: float
    """Seconds since the epoch, on the clock of the writer."""

    def part(self, name: str) -> Part:
        """The part called ``name``.

        Raises:
            NotFound: the set has no such part.
        """
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(part.name for part in self.parts) or "none"
        raise NotFound(f"The set has no part {name!r}. Its parts: {names}.")


def write_part(folder: URI, name: str, data: Data) -> Part:
    """Write one part of the set in ``folder``; nobody sees it before ``commit``.

    Parts may be written at the same time and by several machines, and a part may be written again.
    ``data`` may be large and in several buffers; it is neither copied nor read twice, but must not
    change until this returns.

    Raises:
        AccessDenied, NotFound, StorageUnavailable: as ``URI.write_bytes``.
    """
    views = views_of(data)
    size = size_of(views)
    if size <= _INLINE_BYTES:
        return Part(name, size, sha256_of(views), _write_anew(folder, name, views))
    # Both release the GIL, so that the digest costs no time beside the writing
    with ThreadPoolExecutor(1, "eksml-sha256") as pool:
        digest = pool.submit(sha256_of, views)
        file = _write_anew(folder, name, views)
        return Part(name, size, digest.result(), file)


def commit(folder: URI, parts: Iterable[Part], meta: Mapping[str, Any] | None = None) -> Manifest:
    """Make the set in ``folder`` exist: one writer may, once, after all parts are written.

    Raises:
        AlreadyExists: the set has been committed; this one was not, and changed nothing.
        InvalidSpec: two parts have one name, or ``meta`` is not JSON.
    """
    manifest = Manifest(tuple(parts), dict(meta or {}), time.time())
    text = _encode(manifest)
    try:
        patiently(lambda: (folder / MANIFEST).write_bytes(text, if_absent=True))
    except AlreadyExists as error:
        # It is ours if an earlier round wrote it and the answer was lost
        if patiently((folder / MANIFEST).read_bytes) != text:
            raise AlreadyExists(
                f"{folder} was committed by another writer; what this one wrote is not part of it."
            ) from error
    return manifest


def commit_files(
    folder: URI, files: Mapping[str, Buffer | Path], meta: Mapping[str, Any] | None = None
) -> Manifest:
    """Write ``files``, by name, in parallel and commit them as the set in ``folder``.

    Raises:
        AlreadyExists: the set has been committed.
    """
    pool = ThreadPoolExecutor(_PARALLEL_PARTS, "eksml-parts")
    try:
        parts = list(pool.map(lambda item: _write_file(folder, *item), files.items()))
    finally:
        pool.shutdown(cancel_futures=True)
    return commit(folder, parts, meta)


def read_manifest(folder: URI) -> Manifest | None:
    """The manifest of the set in ``folder``; ``None`` if it is not committed.

    Raises:
        Damaged: the manifest is not what was written.
    """
    uri = folder / MANIFEST
    try:
        return _decode(uri, patiently(uri.read_bytes))
    except NotFound:
        return None


def read_part(folder: URI, part: Part | str) -> bytearray:
    """The bytes of one part, proven equal to what was written.

    Raises:
        Damaged: they are not; the message names the file and what differs.
        NotFound: the set is not committed, or has no such part.
    """
    if isinstance(part, str):
        part = _manifest_of(folder).part(part)
    uri = folder / part.file
    try:
        data = patiently(lambda: uri.store.read(uri))
    except NotFound as error:
        raise Damaged(f"{uri} is missing from the set in {folder}.") from error
    if len(data) != part.size:
        raise Damaged(f"{uri} is damaged: {len(data):,} bytes instead of {part.size:,}.")
    digest = hashlib.sha256(data).hexdigest()
    if digest != part.sha256:
        raise Damaged(f"{uri} is damaged: SHA-256 is {digest} instead of {part.sha256}.")
    return data


def verify(folder: URI) -> Manifest:
    """Read every part of the set in ``folder`` and prove that it is whole.

    Raises:
        Damaged: a part or the manifest is not what was written.
        NotFound: the set is not committed.
    """
    manifest = _manifest_of(folder)
    for part in manifest.parts:
        read_part(folder, part)
    return manifest


def _manifest_of(folder: URI) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is None:
        raise NotFound(f"{folder} holds no committed set.")
    return manifest


def _write_file(folder: URI, name: str, content: Buffer | Path) -> Part:
    if isinstance(content, Path):
        local = URI.parse(content)
        content = local.store.read(local)
    return write_part(folder, name, content)


def _write_anew(folder: URI, name: str, views: list[memoryview]) -> str:
    def write() -> str:
        path = PurePosixPath(name)
        file = str(path.with_name(f"{path.stem}.{secrets.token_hex(6)}{path.suffix}"))
        (folder / file).write_bytes(views)
        return file

    return patiently(write)


def _encode(manifest: Manifest) -> bytes:
    names = [part.name for part in manifest.parts]
    problems = [
        Problem("parts", f"{name!r} is there more than once.", "Give each part its own name.")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise InvalidSpec(problems, "the set")
    body = {"format": _FORMAT, "writer": secrets.token_hex(8), **asdict(manifest)}
    try:
        body = json.loads(json.dumps(body))  # as a reader will see it
    except (TypeError, ValueError) as error:
        raise InvalidSpec([Problem("meta", f"is not JSON: {error}.")], "the set") from error
    return json.dumps({**body, "sha256": _checksum(body)}, indent=1).encode()


def _decode(uri: URI, text: bytes) -> Manifest:
    try:
        body = json.loads(text)
        checksum = body.pop("sha256")
        if checksum != _checksum(body):
            raise Damaged(f"{uri} is damaged: its checksum does not match its content.")
        if body["format"] != _FORMAT:
            raise Damaged(f"{uri} has the format {body['format']!r}; this eksml reads {_FORMAT!r}.")
        return Manifest(
            parts=tuple(Part(**part) for part in body["parts"]),
            meta=body["meta"],
            created_s=body["created_s"],
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{uri} is damaged: it is not a manifest.") from error


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
