"""Files on this machine, or on a shared file system such as EFS or FSx for Lustre."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from eksml.errors import AccessDenied, AlreadyExists, NotFound, StorageError, StorageUnavailable
from eksml.storage.uri import URI, Stat

_CHUNK = 32 * 2**20  # one write() moves at most 2 GiB; this leaves room for signals between
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


class FileStore:
    """A ``Store`` of local files. Needs hard links, which ext4, xfs, NFS, EFS and Lustre have."""

    def read(self, uri: URI) -> bytearray:
        with _translated(uri, "read"), open(uri.key, "rb", buffering=0) as file:
            data = bytearray(os.fstat(file.fileno()).st_size)
            view, at = memoryview(data), 0
            while at < len(data) and (count := file.readinto(view[at : at + _CHUNK])):
                at += count
            view.release()
            del data[at:]  # shortened while being read: the caller's checksum tells
            return data

    def write(self, uri: URI, views: Sequence[memoryview], *, if_absent: bool) -> None:
        path = Path(uri.key)
        temp = path.with_name(f".eksml-{secrets.token_hex(8)}.tmp")
        with _translated(uri, "write"):
            try:
                _write_new(temp, views)
                if if_absent:
                    _link(temp, path)
                else:
                    os.replace(temp, path)
                _sync_folder(path.parent)
            except FileExistsError as error:
                raise AlreadyExists(f"{uri} exists already.") from error
            finally:
                with suppress(OSError):
                    temp.unlink()

    def stat(self, uri: URI) -> Stat | None:
        with _translated(uri, "read"):
            try:
                return _stat(uri) if os.path.isfile(uri.key) else None
            except FileNotFoundError:
                return None

    def scan(self, folder: URI, *, recursive: bool) -> tuple[list[Stat], list[URI]]:
        files: list[Stat] = []
        folders: list[URI] = []
        with _translated(folder, "list"):
            for parent, names, leaves in os.walk(folder.key, onerror=_raise_unless_absent):
                inside = URI("file", "", parent)
                for leaf in leaves:
                    with suppress(FileNotFoundError):
                        if not _is_temp(leaf):
                            files.append(_stat(URI("file", "", os.path.join(parent, leaf))))
                if not recursive:
                    folders = [inside / name for name in names if _holds_file(inside / name)]
                    break
        return files, folders

    def delete(self, uris: Iterable[URI]) -> None:
        for uri in uris:
            with _translated(uri, "delete"):
                try:
                    os.unlink(uri.key)
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise

    def delete_folder(self, folder: URI) -> None:
        with _translated(folder, "delete"):
            if os.path.isdir(folder.key):
                shutil.rmtree(folder.key, onerror=_raise_unless_gone)

    def delete_unfinished(self, folder: URI, *, older_than_s: float) -> Iterator[URI]:
        for parent, names, leaves in os.walk(folder.key, topdown=False):
            for leaf in filter(_is_temp, leaves):
                yield from _delete_if_old(os.path.join(parent, leaf), os.unlink, older_than_s)
            for name in names:
                # rmdir refuses a folder that holds anything, so a writer loses nothing by it
                yield from _delete_if_old(os.path.join(parent, name), os.rmdir, older_than_s)


def _write_new(temp: Path, views: Sequence[memoryview]) -> None:
    with _open_new(temp) as fd:
        for view in views:
            at = 0
            while at < view.nbytes:
                at += os.write(fd, view[at : at + _CHUNK])
        os.fsync(fd)


@contextmanager
def _open_new(temp: Path) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(temp, flags, 0o666)
    except FileNotFoundError:
        _make_folder(temp.parent)
        fd = os.open(temp, flags, 0o666)
    try:
        yield fd
    finally:
        os.close(fd)


def _make_folder(folder: Path) -> None:
    """Like mkdir -p, durable: a power cut must not lose the folder of a committed set."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir()
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _link(temp: Path, path: Path) -> None:
    try:
        os.link(temp, path)
    except FileExistsError:
        # NFS sends a call again if the answer was lost: two links mean that ours went through
        if temp.stat().st_nlink != 2:
            raise


def _stat(uri: URI) -> Stat:
    status = os.stat(uri.key)
    return Stat(uri, status.st_size, max(0.0, time.time() - status.st_mtime))


def _is_temp(name: str) -> bool:
    return name.startswith(".eksml-") and name.endswith(".tmp")


def _holds_file(folder: URI) -> bool:
    return any(not _is_temp(leaf) for _, _, leaves in os.walk(folder.key) for leaf in leaves)


def _delete_if_old(path: str, delete: Callable[[str], None], older_than_s: float) -> Iterator[URI]:
    with suppress(OSError):
        if time.time() - os.lstat(path).st_mtime >= older_than_s:
            delete(path)
            yield URI("file", "", path)


def _raise_unless_absent(error: OSError) -> None:
    if error.errno not in _ABSENT:
        raise error


def _raise_unless_gone(_: object, path: str, info: tuple[type, BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


@contextmanager
def _translated(uri: URI, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _translate(error, uri, action) from error


def _translate(error: OSError, uri: URI, action: str) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in _DENIED:
        return AccessDenied(
            f"Cannot {action} {uri}: {reason}. Choose a folder that you may {action}, or change "
            "its permissions."
        )
    if error.errno in _FULL:
        return StorageUnavailable(f"Cannot {action} {uri}: {reason}. Free some space.")
    if error.errno in _ABSENT and action == "write":
        return AccessDenied(
            f"Cannot write {uri}: {reason}. A folder on its way is a file or cannot be created."
        )
    if error.errno in _ABSENT:
        return NotFound(f"There is no file {uri}.")
    return StorageUnavailable(f"Cannot {action} {uri}: {reason}. Check the disk or its mount.")
