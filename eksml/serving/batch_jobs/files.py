"""Files that tenants uploaded or batches wrote: committed sets of parts, read in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eksml.errors import AlreadyExists, Damaged, NotFound
from eksml.serving.batch_jobs.places import is_file_id
from eksml.storage import URI, Manifest, Part, commit, read_manifest, read_part, write_part
from eksml.storage.commit import MANIFEST

PART_BYTES = 8 * 2**20
"""A file is written and read in pieces of this size, and no more of it is in memory."""


@dataclass(frozen=True)
class StoredFile:
    """A file that is there as a whole."""

    folder: URI
    filename: str
    purpose: str
    size: int
    """Bytes."""
    created_at: int
    """Seconds since the epoch."""
    parts: tuple[Part, ...]

    @property
    def id(self) -> str:
        """As the API calls it."""
        return self.folder.name

    def view(self) -> dict[str, Any]:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }

    def chunks(self) -> Iterator[bytearray]:
        """The bytes, a part at a time, each proven to be what was written.

        Raises:
            Damaged: a part is not.
        """
        return (read_part(self.folder, part) for part in self.parts)


def find_file(files: URI, file_id: str) -> StoredFile | None:
    """The file of that name in a tenant's folder; None if there is none, or no such name.

    Raises:
        Damaged: its manifest is not what was written.
    """
    if not is_file_id(file_id):
        return None
    folder = files / file_id
    manifest = read_manifest(folder)
    return None if manifest is None else _stored(folder, manifest)


def delete_file(file: StoredFile) -> None:
    """Delete it; a reader sees all of it or nothing, even if this is killed on the way."""
    (file.folder / MANIFEST).delete()
    file.folder.delete(recursive=True)


class FileWriter:
    """Writes one file, in parts, in bounded memory. Nobody sees it before ``finish``.

    Blocks while it writes: for threads, not for event loops. One thread at a time.
    """

    def __init__(self, folder: URI) -> None:
        self.folder = folder
        self.size = 0
        self._waiting = bytearray()
        self._parts: list[Part] = []

    @property
    def is_full(self) -> bool:
        """Whether a part's worth of bytes waits for ``flush``."""
        return len(self._waiting) >= PART_BYTES

    def append(self, data: bytes) -> None:
        """Take bytes, without writing: call ``flush`` once ``is_full``."""
        self._waiting += data
        self.size += len(data)

    def flush(self) -> None:
        """Write what waits as a part.

        Raises:
            StorageUnavailable, AccessDenied: as ``write_part``.
        """
        if self._waiting:
            name = f"{len(self._parts):06d}.part"
            self._parts.append(write_part(self.folder, name, self._waiting))
            self._waiting = bytearray()

    def finish(self, filename: str, purpose: str) -> StoredFile:
        """Make the file exist; gives the one that does, if another writer was faster."""
        self.flush()
        meta = {
            "filename": filename,
            "purpose": purpose,
            "bytes": self.size,
            "created_at": int(time.time()),
        }
        try:
            return _stored(self.folder, commit(self.folder, self._parts, meta))
        except AlreadyExists:
            manifest = read_manifest(self.folder)
            if manifest is None:
                raise NotFound(f"{self.folder} was deleted while it was written.") from None
            return _stored(self.folder, manifest)

    def discard(self) -> None:
        """Delete what was written of a file that is not to be."""
        self.folder.delete(recursive=True)


def _stored(folder: URI, manifest: Manifest) -> StoredFile:
    meta = manifest.meta
    try:
        return StoredFile(
            folder=folder,
            filename=meta["filename"],
            purpose=meta["purpose"],
            size=meta["bytes"],
            created_at=meta["created_at"],
            parts=manifest.parts,
        )
    except KeyError as error:
        raise Damaged(f"{folder} is no file of this API: its manifest lacks {error}.") from error
