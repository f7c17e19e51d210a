"""One type for a place in storage: a local path or ``s3://bucket/key``."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from eksml.errors import Damaged, InvalidSpec, Problem
from eksml.storage.buffers import Data, views_of
from eksml.storage.store import Store, store_of

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_MAX_KEY_BYTES = 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True, order=True)
class URI:
    """A place in storage, used like a ``pathlib.Path``. Immutable; names nothing until used.

    >>> URI.parse("s3://models/digits") / "step-10" / "manifest.json"
    URI('s3://models/digits/step-10/manifest.json')

    Reading and writing raise ``NotFound``, ``AccessDenied`` and ``StorageUnavailable``, each
    with the place and the remedy. All methods may be called from any thread, and a ``URI`` may be
    sent to other processes. Like in S3, a folder exists while it holds a file.
    """

    scheme: Literal["file", "s3"]
    bucket: str
    """The bucket; empty for local paths."""
    key: str
    """The key inside the bucket, or the absolute local path."""

    @classmethod
    def parse(cls, text: str | os.PathLike[str] | URI) -> URI:
        """Read ``s3://bucket/prefix``, ``/folder``, ``folder``, ``~/folder`` or ``file:///folder``.

        Relative paths are taken from the present working directory, here and now.

        Raises:
            InvalidSpec: unknown scheme, wrong bucket name, ``..`` or control characters inside.
        """
        if isinstance(text, URI):
            return text
        if not isinstance(text, str | os.PathLike):
            raise _invalid(str(text), "is no text or path.", "Use a folder or s3://bucket/prefix.")
        text = os.fspath(text)
        match = _SCHEME.fullmatch(text)
        scheme, rest = (match[1].lower(), match[2]) if match else ("", text)
        if scheme == "s3":
            return _parse_s3(text, rest)
        if scheme == "file":
            if not rest.startswith("/"):
                raise _invalid(text, "names a host.", "Write file:///folder, with three slashes.")
            return _parse_path(text, unquote(rest))
        if scheme:
            raise _invalid(text, f"has the unknown scheme {scheme}://.", "Use a path or s3://.")
        return _parse_path(text, rest)

    def __truediv__(self, name: str) -> URI:
        """The file or folder ``name`` in this folder; ``name`` may hold slashes.

        Raises:
            InvalidSpec: ``name`` is empty, absolute, or holds ``.``, ``..`` or control characters.
        """
        _check_parts(name, name.split("/"))
        key = f"{self.key.rstrip('/')}/{name}" if self.key else name
        if self.scheme == "s3" and len(key.encode()) > _MAX_KEY_BYTES:
            raise _invalid(f"s3://{self.bucket}/{key}", "is longer than S3's 1,024 bytes.", "")
        return URI(self.scheme, self.bucket, key)

    def __str__(self) -> str:
        return self.key if self.scheme == "file" else f"s3://{self.bucket}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"URI({str(self)!r})"

    @property
    def name(self) -> str:
        """The last part; empty for a whole bucket or the root folder."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> URI:
        """The folder that holds this; the parent of a bucket or root folder is itself."""
        above = self.key.rpartition("/")[0]
        return URI(self.scheme, self.bucket, above or ("/" if self.scheme == "file" else ""))

    @property
    def path(self) -> Path:
        """The local path.

        Raises:
            InvalidSpec: this is in S3.
        """
        if self.scheme != "file":
            raise _invalid(str(self), "is not a local path.", "Give a folder of this machine.")
        return Path(self.key)

    def relative_to(self, folder: URI) -> str:
        """The name of this inside ``folder``: ``folder / uri.relative_to(folder) == uri``."""
        prefix = f"{folder.key.rstrip('/')}/" if folder.key else ""
        if (self.scheme, self.bucket) != (folder.scheme, folder.bucket) or not (
            self.key.startswith(prefix) and len(self.key) > len(prefix)
        ):
            raise _invalid(str(self), f"does not lie under {folder}.", "")
        return self.key[len(prefix) :]

    @property
    def store(self) -> Store:
        """The store that holds this; for the rest of ``eksml.storage``."""
        return store_of(self.scheme)

    def read_bytes(self) -> bytes:
        """All bytes of this file.

        Raises:
            NotFound: there is no such file or bucket.
        """
        return bytes(self.store.read(self))

    def write_bytes(self, data: Data, *, if_absent: bool = False) -> None:
        """Write this file atomically and durably, in place of an older one.

        Several buffers are stored one after another; none is copied, whatever its size. A reader
        sees the old bytes or the new, never a part, and so does everybody after a crash.

        Raises:
            AlreadyExists: ``if_absent``, and the file is there; of racing writers one succeeds.
        """
        self.store.write(self, views_of(data), if_absent=if_absent)

    def read_json(self) -> Any:
        """The value in this JSON file.

        Raises:
            NotFound: there is no such file or bucket.
            Damaged: it is not JSON.
        """
        try:
            return json.loads(self.read_bytes())
        except ValueError as error:
            raise Damaged(f"{self} is not JSON: {error}. Restore it, or delete it.") from error

    def write_json(self, value: Any, *, if_absent: bool = False) -> None:
        """Write ``value`` as JSON, as ``write_bytes`` does."""
        self.write_bytes(json.dumps(value, indent=1).encode(), if_absent=if_absent)

    def exists(self) -> bool:
        """Whether this is a file."""
        return self.stat() is not None

    def stat(self) -> Stat | None:
        """Size and age; ``None`` if there is no such file."""
        return self.store.stat(self)

    def list(self, recursive: bool = False) -> Iterator[Stat]:
        """The files in this folder, or at all levels below, sorted by name.

        Half-written files are never among them. A missing folder is empty.

        Raises:
            NotFound: the bucket does not exist.
        """
        files, _ = self.store.scan(self, recursive=recursive)
        return iter(sorted(files))

    def folders(self) -> Iterator[URI]:
        """The folders directly in this one that hold a file, at any depth; sorted by name.

        A server with real directories may show one for some seconds after it was emptied.
        """
        _, folders = self.store.scan(self, recursive=False)
        return iter(sorted(folders))

    def delete(self, *, recursive: bool = False) -> None:
        """Delete this file, or with ``recursive`` everything under this folder. Missing is fine."""
        if recursive:
            self.store.delete_folder(self)
        self.store.delete([self])

    def check_writable(self) -> None:
        """Prove, before a run, that files can be listed, written, read and deleted in this folder.

        Leaves nothing behind but the local folder, which it may create.

        Raises:
            NotFound: the bucket does not exist.
            AccessDenied: no credentials, not allowed, or read-only.
            StorageUnavailable: the storage cannot be reached, or is full.
        """
        probe = self / f".eksml-probe-{secrets.token_hex(6)}"
        self.store.scan(probe, recursive=False)
        self.store.write(probe, [memoryview(b"x")], if_absent=True)
        try:
            self.store.read(probe)
        finally:
            self.store.delete([probe])


@dataclass(frozen=True, slots=True, order=True)
class Stat:
    """A file that exists."""

    uri: URI
    size: int
    """Bytes."""
    age_s: float
    """Seconds since it was last written, on the store's clock: for S3 the server's."""


def _parse_s3(text: str, rest: str) -> URI:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise _invalid(
            text,
            f"has the bucket name {bucket!r}." if bucket else "names no bucket.",
            "A bucket has 3 to 63 lowercase letters, digits, dots and hyphens.",
        )
    root = URI("s3", bucket, "")
    return root / key.rstrip("/") if key.strip("/") else root


def _parse_path(text: str, path: str) -> URI:
    if not path:
        raise _invalid(text, "is empty.", "Use a folder or s3://bucket/prefix.")
    _check_parts(text, [part for part in path.split("/") if part not in ("", ".")])
    expanded = os.path.expanduser(path)
    return URI("file", "", os.path.abspath(expanded))


def _check_parts(text: str, parts: list[str]) -> None:
    if ".." in parts:
        raise _invalid(text, "holds '..'.", "Write the place out in full.")
    if "" in parts or "." in parts:
        raise _invalid(text, "has an empty part or '.'.", "Write each folder's name once.")
    if _CONTROL.search(text):
        raise _invalid(text, "holds control characters.", "Use printable characters.")


def _invalid(text: str, message: str, remedy: str) -> InvalidSpec:
    return InvalidSpec([Problem("storage", f"{text!r} {message}", remedy)], "the storage location")
