"""What a place that holds files must be able to do. ``file.py`` and ``s3.py`` do it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from eksml.storage.uri import URI, Stat


class Store(Protocol):
    """This is the whole surface. Every method may be called from any thread.

    Errors are those of ``eksml.errors``: ``NotFound``, ``AccessDenied``, ``StorageUnavailable``
    (after the store's own retries) and ``AlreadyExists``; never a lower library's.
    """

    def read(self, uri: URI) -> bytearray:
        """All bytes of one file."""

    def write(self, uri: URI, views: Sequence[memoryview], *, if_absent: bool) -> None:
        """Write one file: afterwards all of it is there, durably, or the old state is.

        With ``if_absent``, of several writers exactly one succeeds.
        """

    def stat(self, uri: URI) -> Stat | None:
        """Size and age of one file; ``None`` if it is absent."""

    def scan(self, folder: URI, *, recursive: bool) -> tuple[list[Stat], list[URI]]:
        """Files in ``folder``, and the folders directly in it that hold a file; any order.

        With ``recursive`` the files of all levels, and no folders. Half-written files of killed
        writers are not among them. A folder that does not exist is empty.
        """

    def delete(self, uris: Iterable[URI]) -> None:
        """Delete files. Those that are absent already are fine."""

    def delete_folder(self, folder: URI) -> None:
        """Delete everything under ``folder``, and the folder where folders exist."""

    def delete_unfinished(self, folder: URI, *, older_than_s: float) -> Iterator[URI]:
        """Delete what killed writers left half-written under ``folder``; yields the files' names
        as they would have been, or the leftovers' own where that is unknown."""


def store_of(scheme: str) -> Store:
    """The store of a scheme, made at first use: ``file`` costs no import of boto3."""
    if scheme == "s3":
        from eksml.storage.s3 import S3Store

        return S3Store()
    from eksml.storage.file import FileStore

    return FileStore()
