"""S3, or a server that speaks its protocol. Endpoint and credentials as in every AWS tool."""

from __future__ import annotations

import functools
import os
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from eksml.errors import (
    AlreadyExists,
    InvalidSpec,
    NotFound,
    Problem,
    StorageError,
    StorageUnavailable,
)
from eksml.storage.buffers import BufferReader, cut, size_of
from eksml.storage.s3_errors import CONFLICT, code_of, translate
from eksml.storage.uri import URI, Stat

T = TypeVar("T")

TRIES = 5
"""Times that one call to S3 is made before it counts as failed."""
PART_BYTES = 16 * 2**20
"""Larger data goes up and comes down in parallel parts of this size."""
PARALLEL = 8
"""Parts of one object on their way at once."""
_READ_BYTES = 2**20  # urllib3 buffers as much as is asked for
_MAX_PARTS = 10_000  # docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
_DELETE_BATCH = 1_000
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
_LONGEST_WAIT_S = 8
_WRITER = "eksml-writer"
_CHECKSUM = {"ChecksumAlgorithm": "CRC32"}  # S3 checks each part, and the list of them at the end
_LIST_CURSOR = {"NextContinuationToken": "ContinuationToken"}
_UPLOADS_CURSOR = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}


class S3Store:
    """A ``Store`` in S3. Holds nothing; the client is shared by the process."""

    def read(self, uri: URI) -> bytearray:
        for _ in range(TRIES):
            data, etag = _call(uri, lambda s3: _read_start(s3, uri))
            starts = range(PART_BYTES, len(data), PART_BYTES)
            try:
                _in_parallel(functools.partial(_read_range, uri, etag, data), starts)
            except AlreadyExists:  # If-Match failed: replaced meanwhile, so read the new one
                continue
            return data
        raise StorageUnavailable(f"{uri} was replaced {TRIES} times while it was read. Try again.")

    def write(self, uri: URI, views: Sequence[memoryview], *, if_absent: bool) -> None:
        # The server keeps this beside the object, so that a writer whose answer was lost can tell
        # its own object from another's.
        writer = secrets.token_hex(16)
        upload = _put if size_of(views) <= PART_BYTES else _put_in_parts
        for attempt in range(1, TRIES + 1):
            try:
                return upload(uri, views, writer, {"IfNoneMatch": "*"} if if_absent else {})
            except AlreadyExists:
                if _writer_of(uri) != writer:
                    raise
                return None
            except _Conflict as error:
                if attempt == TRIES:
                    raise StorageUnavailable(
                        f"Another writer was in the way of {uri} {TRIES} times. Try again."
                    ) from error
                _wait(attempt)
        return None

    def stat(self, uri: URI) -> Stat | None:
        try:
            head = _call(uri, lambda s3: s3.head_object(**_at(uri)))
        except NotFound:
            return None
        return Stat(uri, head["ContentLength"], _age_s(head["LastModified"], head))

    def scan(self, folder: URI, *, recursive: bool) -> tuple[list[Stat], list[URI]]:
        files: list[Stat] = []
        folders: list[URI] = []
        request = {"Bucket": folder.bucket, "Prefix": _prefix(folder)}
        if not recursive:
            request["Delimiter"] = "/"
        for page in _pages(folder, "list_objects_v2", request, _LIST_CURSOR):
            files += [
                Stat(_uri(folder, item["Key"]), item["Size"], _age_s(item["LastModified"], page))
                for item in page.get("Contents", ())
                if not item["Key"].endswith("/")  # consoles make such markers for folders
            ]
            folders += [
                _uri(folder, item["Prefix"].rstrip("/")) for item in page.get("CommonPrefixes", ())
            ]
        return files, folders

    def delete(self, uris: Iterable[URI]) -> None:
        named = [uri for uri in uris if uri.key]
        for start in range(0, len(named), _DELETE_BATCH):
            batch = named[start : start + _DELETE_BATCH]
            _call(batch[0], functools.partial(_delete_batch, batch))

    def delete_folder(self, folder: URI) -> None:
        files, _ = self.scan(folder, recursive=True)
        self.delete(file.uri for file in files)

    def delete_unfinished(self, folder: URI, *, older_than_s: float) -> Iterator[URI]:
        request = {"Bucket": folder.bucket, "Prefix": _prefix(folder)}
        for page in _pages(folder, "list_multipart_uploads", request, _UPLOADS_CURSOR):
            for item in page.get("Uploads", ()):
                if _age_s(item["Initiated"], page) >= older_than_s:
                    uri = _uri(folder, item["Key"])
                    _abort(uri, item["UploadId"], tries=TRIES)
                    yield uri


class _Conflict(Exception):
    """S3 saw two conditional writes at once and took neither; a new try decides."""


def _call(uri: URI, request: Callable[[Any], T], *, tries: int = TRIES) -> T:
    """What ``request(client)`` returns, tried again with backoff where that can help."""
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = ""
    attempt = 1
    while True:
        try:
            client = _client()
            endpoint = client.meta.endpoint_url
            return request(client)
        except (BotoCoreError, ClientError) as error:
            if code_of(error) in CONFLICT:
                raise _Conflict from error
            failure = translate(error, uri, tries=attempt, endpoint=endpoint)
            if attempt == tries or not isinstance(failure, StorageUnavailable):
                raise failure from error
        _wait(attempt)
        attempt += 1


def _wait(attempt: int) -> None:
    """Exponential backoff with jitter, so that many writers do not come back all at once."""
    time.sleep(random.uniform(0.5, 1) * min(_LONGEST_WAIT_S, 0.5 * 2 ** (attempt - 1)))


def _client() -> Any:
    # boto3 reads these when a client is made: a change of them, or a fork, needs a new client.
    # Only their hash is kept, lest a traceback that shows variables shows a secret.
    environment = hash(tuple(item for item in os.environ.items() if item[0].startswith("AWS_")))
    return _new_client(os.getpid(), environment)


@functools.lru_cache(maxsize=4)
def _new_client(pid: int, environment: int) -> Any:
    import boto3
    from botocore.config import Config

    own_server = any(name.startswith("AWS_ENDPOINT_URL") for name in os.environ)
    config = Config(
        retries={"total_max_attempts": 1},  # _call counts the tries, of reading the body as well
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=4 * PARALLEL,
        tcp_keepalive=True,
        response_checksum_validation="when_required",  # eksml.storage.commit verifies with SHA-256
        s3={"addressing_style": "path" if own_server else "auto"},
    )
    try:
        # The default session is shared and not safe for threads
        return boto3.session.Session().client("s3", config=config)
    except ValueError as error:
        problem = Problem("AWS_ENDPOINT_URL", str(error), "Write it as http://host:port.")
        raise InvalidSpec([problem], "the AWS environment") from error


def _read_start(s3: Any, uri: URI) -> tuple[bytearray, str]:
    """Room for the whole object with its first part read, and the version's ETag."""
    answer = s3.get_object(**_at(uri))
    data = bytearray(answer["ContentLength"])
    with closing(answer["Body"]) as body:
        _fill(memoryview(data)[:PART_BYTES], body)
    return data, answer["ETag"]


def _read_range(uri: URI, etag: str, data: bytearray, start: int) -> None:
    target = memoryview(data)[start : start + PART_BYTES]
    span = f"bytes={start}-{start + len(target) - 1}"

    def read(s3: Any) -> None:
        with closing(s3.get_object(**_at(uri), Range=span, IfMatch=etag)["Body"]) as body:
            _fill(target, body)

    _call(uri, read)


def _fill(target: memoryview, body: Any) -> None:
    from botocore.exceptions import IncompleteReadError

    at = 0
    while at < len(target):
        count = body.readinto(target[at : at + _READ_BYTES])
        if not count:
            raise IncompleteReadError(actual_bytes=at, expected_bytes=len(target))
        at += count


def _put(uri: URI, views: Sequence[memoryview], writer: str, condition: Mapping[str, str]) -> None:
    _call(
        uri,
        lambda s3: s3.put_object(
            **_at(uri), Body=BufferReader(views), Metadata={_WRITER: writer}, **condition
        ),
    )


def _put_in_parts(
    uri: URI, views: Sequence[memoryview], writer: str, condition: Mapping[str, str]
) -> None:
    size = size_of(views)
    part_bytes = max(PART_BYTES, -(-size // _MAX_PARTS))
    request = {**_at(uri), "Metadata": {_WRITER: writer}, **_CHECKSUM}
    upload_id = _call(uri, lambda s3: s3.create_multipart_upload(**request))["UploadId"]
    try:
        parts = _in_parallel(
            lambda start: _put_part(
                uri, upload_id, start // part_bytes + 1, list(cut(views, start, part_bytes))
            ),
            range(0, size, part_bytes),
        )
        _complete(uri, upload_id, parts, writer, condition)
    except BaseException:
        with suppress(StorageError):
            _abort(uri, upload_id, tries=1)
        raise


def _put_part(uri: URI, upload_id: str, number: int, views: Sequence[memoryview]) -> dict[str, Any]:
    request = {**_at(uri), "UploadId": upload_id, "PartNumber": number, **_CHECKSUM}
    answer = _call(uri, lambda s3: s3.upload_part(**request, Body=BufferReader(views)))
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
        _call(
            uri,
            lambda s3: s3.complete_multipart_upload(
                **_at(uri), UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
            ),
        )
    except NotFound:  # the upload is gone: done by an earlier try whose answer was lost?
        if _writer_of(uri) != writer:
            raise


def _abort(uri: URI, upload_id: str, *, tries: int) -> None:
    with suppress(NotFound):
        _call(
            uri,
            lambda s3: s3.abort_multipart_upload(**_at(uri), UploadId=upload_id),
            tries=tries,
        )


def _writer_of(uri: URI) -> str | None:
    head = _call(uri, lambda s3: s3.head_object(**_at(uri)))
    writer: str | None = head["Metadata"].get(_WRITER)
    return writer


def _delete_batch(batch: Sequence[URI], s3: Any) -> None:
    from botocore.exceptions import ClientError

    objects = [{"Key": uri.key} for uri in batch]
    answer = s3.delete_objects(Bucket=batch[0].bucket, Delete={"Objects": objects, "Quiet": True})
    for error in answer.get("Errors", ()):
        raise ClientError({"Error": {"Code": error["Code"]}}, "DeleteObjects")


def _pages(
    folder: URI, operation: str, request: dict[str, str], cursor: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Every page of a listing; ``cursor`` tells which answer continues which parameter."""
    while True:
        page = _call(folder, functools.partial(_request, operation, request))
        yield page
        if not page.get("IsTruncated"):
            return
        request = request | {name: page[field] for field, name in cursor.items()}


def _request(operation: str, request: Mapping[str, str], s3: Any) -> dict[str, Any]:
    answer: dict[str, Any] = getattr(s3, operation)(**request)
    return answer


def _in_parallel(work: Callable[[int], T], starts: Sequence[int]) -> list[T]:
    if len(starts) <= 1:
        return [work(start) for start in starts]
    pool = ThreadPoolExecutor(min(PARALLEL, len(starts)), "eksml-s3")
    try:
        return list(pool.map(work, starts))
    finally:
        pool.shutdown(cancel_futures=True)


def _at(uri: URI) -> dict[str, str]:
    if not uri.key:
        raise NotFound(f"{uri} is a bucket, not a file. Add a name.")
    return {"Bucket": uri.bucket, "Key": uri.key}


def _prefix(folder: URI) -> str:
    return f"{folder.key}/" if folder.key else ""


def _uri(folder: URI, key: str) -> URI:
    return URI("s3", folder.bucket, key)


def _age_s(since: datetime, answer: Mapping[str, Any]) -> float:
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return max(0.0, (now - since).total_seconds())
