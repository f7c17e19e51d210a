"""The bytes of one object: in one request if small, else in parts, several at once."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, TypeVar

from eksml.errors import AlreadyExists, NotFound, StorageError, StorageUnavailable
from eksml.storage.buffers import BufferReader, cut, size_of
from eksml.storage.s3_client import TRIES, Conflict, address, call, wait
from eksml.storage.uri import URI

T = TypeVar("T")

PART_BYTES = 16 * 2**20
"""Larger data goes up and comes down in parallel parts of this size."""
PARALLEL = 8
"""Parts of one object on their way at once."""
_READ_BYTES = 2**20  # urllib3 buffers as much as is asked for
_MAX_PARTS = 10_000  # docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_WRITER = "eksml-writer"
_CHECKSUM = {"ChecksumAlgorithm": "CRC32"}  # S3 checks each part, and the list of them at the end


def download(uri: URI) -> bytearray:
    """All bytes of one version of an object."""
    for _ in range(TRIES):
        data, etag = call(uri, functools.partial(_read_start, uri))
        starts = range(PART_BYTES, len(data), PART_BYTES)
        try:
            _in_parallel(functools.partial(_read_range, uri, etag, data), starts)
        except AlreadyExists:  # If-Match failed: replaced meanwhile, so read the new one
            continue
        return data
    raise StorageUnavailable(f"{uri} was replaced {TRIES} times while it was read. Try again.")


def upload(uri: URI, views: Sequence[memoryview], *, if_absent: bool) -> None:
    """Write an object as a whole.

    Raises:
        AlreadyExists: ``if_absent``, and another writer's object is there.
    """
    # The server keeps this beside the object, so that a writer whose answer was lost can tell its
    # own object from another's.
    writer = secrets.token_hex(16)
    put = _put if size_of(views) <= PART_BYTES else _put_in_parts
    condition = {"IfNoneMatch": "*"} if if_absent else {}
    for attempt in range(1, TRIES + 1):
        try:
            return put(uri, views, writer, condition)
        except AlreadyExists:
            if _writer_of(uri) != writer:
                raise
            return None
        except Conflict:
            wait(attempt)
    raise StorageUnavailable(
        f"Another writer was in the way of {uri} {TRIES} times. Try again later."
    )


def _read_start(uri: URI, s3: Any) -> tuple[bytearray, str]:
    """Room for the whole object with its first part read, and the version's ETag."""
    answer = s3.get_object(**address(uri))
    data = bytearray(answer["ContentLength"])
    with closing(answer["Body"]) as body:
        _fill(memoryview(data)[:PART_BYTES], body)
    return data, answer["ETag"]


def _read_range(uri: URI, etag: str, data: bytearray, start: int) -> None:
    target = memoryview(data)[start : start + PART_BYTES]
    span = f"bytes={start}-{start + len(target) - 1}"

    def read(s3: Any) -> None:
        with closing(s3.get_object(**address(uri), Range=span, IfMatch=etag)["Body"]) as body:
            _fill(target, body)

    call(uri, read)


def _fill(target: memoryview, body: Any) -> None:
    from botocore.exceptions import IncompleteReadError

    at = 0
    while at < len(target):
        count = body.readinto(target[at : at + _READ_BYTES])
        if not count:
            raise IncompleteReadError(actual_bytes=at, expected_bytes=len(target))
        at += count


def _put(uri: URI, views: Sequence[memoryview], writer: str, condition: Mapping[str, str]) -> None:
    call(
        uri,
        lambda s3: s3.put_object(
            **address(uri), Body=BufferReader(views), Metadata={_WRITER: writer}, **condition
        ),
    )


def _put_in_parts(
    uri: URI, views: Sequence[memoryview], writer: str, condition: Mapping[str, str]
) -> None:
    size = size_of(views)
    part_bytes = max(PART_BYTES, -(-size // _MAX_PARTS))
    request = {**address(uri), "Metadata": {_WRITER: writer}, **_CHECKSUM}
    upload_id = call(uri, lambda s3: s3.create_multipart_upload(**request))["UploadId"]
    try:
        parts = _in_parallel(
            lambda start: _put_part(
                uri, upload_id, start // part_bytes + 1, list(cut(views, start, part_bytes))
            ),
            range(0, size, part_bytes),
        )
        _complete(uri, upload_id, parts, writer, condition)
    except BaseException:
        with suppress(StorageError, Conflict):
            abort(uri, upload_id, tries=1)
        raise


def _put_part(uri: URI, upload_id: str, number: int, views: Sequence[memoryview]) -> dict[str, Any]:
    request = {**address(uri), "UploadId": upload_id, "PartNumber": number, **_CHECKSUM}
    answer = call(uri, lambda s3: s3.upload_part(**request, Body=BufferReader(views)))
    return {"PartNumber": number} | {
        name: answer[name] for name in ("ETag", "ChecksumCRC32") if name in answer
    }


def _complete(
    uri: URI,
    upload_id: str,
    parts: Sequence[Mapping[str, Any]],
    writer: str,
    condition: Mapping[str, str],
) -> None:
    try:
        call(
            uri,
            lambda s3: s3.complete_multipart_upload(
                **address(uri), UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            ),
        )
    except NotFound:  # the upload is gone: done by an earlier try whose answer was lost?
        if _writer_of(uri) != writer:
            raise


def abort(uri: URI, upload_id: str, *, tries: int) -> None:
    """Drop a multipart upload and what it has stored so far. Fine if it is gone."""
    with suppress(NotFound):
        call(
            uri,
            lambda s3: s3.abort_multipart_upload(**address(uri), UploadId=upload_id),
            tries=tries,
        )


def _writer_of(uri: URI) -> str | None:
    head = call(uri, lambda s3: s3.head_object(**address(uri)))
    writer: str | None = head["Metadata"].get(_WRITER)
    return writer


def _in_parallel(work: Callable[[int], T], starts: Sequence[int]) -> list[T]:
    if len(starts) <= 1:
        return [work(start) for start in starts]
    pool = ThreadPoolExecutor(min(PARALLEL, len(starts)), "eksml-s3")
    try:
        return list(pool.map(work, starts))
    finally:
        pool.shutdown(cancel_futures=True)
