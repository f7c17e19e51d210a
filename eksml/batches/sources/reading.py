"""Files open for reading at any place, with the errors of the libraries below in our words."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eksml.errors import AccessDenied, Damaged, EksmlError, NotFound, StorageUnavailable
from eksml.storage import URI, arrow_filesystem

_DENIED = ("ACCESS_DENIED", "HTTP status 403", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")


def place_of(file: str) -> tuple[str, Any]:
    """A file's path for pyarrow and its filesystem, which keeps its connections for the next."""
    uri = URI.parse(file)
    path = uri.key if uri.scheme == "file" else f"{uri.bucket}/{uri.key}"
    settings = () if uri.scheme == "file" else _settings()
    return path, _filesystem(uri.scheme, uri.bucket, settings)


@contextmanager
def opened(file: str, size: int) -> Iterator[Any]:
    """The file as pyarrow's random access file.

    Raises:
        Damaged: It does not have ``size`` bytes any more, or what is read is not what it should be.
        NotFound, AccessDenied, StorageUnavailable: It cannot be read.
    """
    path, filesystem = place_of(file)
    with translated(file), filesystem.open_input_file(path) as stream:
        _compare(file, stream.size(), size)
        yield stream


def check_size(file: str, size: int) -> None:
    """Raises as ``opened`` does, without opening the file."""
    path, filesystem = place_of(file)
    with translated(file):
        found = filesystem.get_file_info(path)
    if found.size is None:
        raise NotFound(f"There is no file {file} any more.")
    _compare(file, found.size, size)


def content(file: str, size: int) -> bytes:
    """All bytes of a file; raises as ``opened`` does."""
    with opened(file, size) as stream:
        data: bytes = stream.read()
    return data


@contextmanager
def translated(file: str) -> Iterator[None]:
    """What pyarrow raises while it reads ``file``, as our errors."""
    import pyarrow as pa

    try:
        yield
    except EksmlError:
        raise
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {file} any more: {error}.") from error
    except OSError as error:
        raise _storage_error(file, error) from error
    except pa.ArrowException as error:
        raise Damaged(f"{file} is not what it should be: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of an error's text, with a full stop."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _storage_error(file: str, error: OSError) -> EksmlError:
    text = str(error)
    if isinstance(error, PermissionError) or any(word in text for word in _DENIED):
        return AccessDenied(f"Cannot read {file}: {first_line(error)} Check who may read it.")
    if error.errno or "AWS Error" in text:
        told = f"Cannot read {file}: {first_line(error)} Check the network, or try again later."
        return StorageUnavailable(told)
    # pyarrow's decoders raise OSError as well, without a number
    return Damaged(f"{file} is not what it should be: {first_line(error)}")


def _compare(file: str, found: int, size: int) -> None:
    if found != size:
        raise Damaged(
            f"{file} has {found} bytes, and had {size} when it was listed: the input has changed. "
            "Put the old file back, or start a run with a new name."
        )


def _settings() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


@functools.lru_cache(maxsize=8)
def _filesystem(scheme: str, bucket: str, _: tuple[tuple[str, str], ...]) -> Any:
    """Made once for each bucket and each setting of AWS: a new one connects anew."""
    return arrow_filesystem(URI("s3", bucket, "x") if scheme == "s3" else URI("file", "", "/"))[1]
