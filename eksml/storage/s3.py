"""S3, or a server that speaks its protocol. Endpoint and credentials as in every AWS tool."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from eksml.errors import NotFound
from eksml.storage.s3_client import TRIES, address, call
from eksml.storage.s3_transfer import abort, download, upload
from eksml.storage.uri import URI, Stat

_DELETE_BATCH = 1_000
_LIST_CURSOR = {"NextContinuationToken": "ContinuationToken"}
_UPLOADS_CURSOR = {"NextKeyMarker": "KeyMarker", "NextUploadIdMarker": "UploadIdMarker"}


class S3Store:
    """A ``Store`` in S3. Holds nothing; the client is shared by the process."""

    def read(self, uri: URI) -> bytearray:
        return download(uri)

    def write(self, uri: URI, views: Sequence[memoryview], *, if_absent: bool) -> None:
        upload(uri, views, if_absent=if_absent)

    def stat(self, uri: URI) -> Stat | None:
        try:
            head = call(uri, lambda s3: s3.head_object(**address(uri)))
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
            call(batch[0], functools.partial(_delete_batch, batch))

    def delete_folder(self, folder: URI) -> None:
        files, _ = self.scan(folder, recursive=True)
        self.delete(file.uri for file in files)

    def delete_unfinished(self, folder: URI, *, older_than_s: float) -> Iterator[URI]:
        request = {"Bucket": folder.bucket, "Prefix": _prefix(folder)}
        for page in _pages(folder, "list_multipart_uploads", request, _UPLOADS_CURSOR):
            for item in page.get("Uploads", ()):
                if _age_s(item["Initiated"], page) >= older_than_s:
                    uri = _uri(folder, item["Key"])
                    abort(uri, item["UploadId"], tries=TRIES)
                    yield uri


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
        page = call(folder, functools.partial(_request, operation, request))
        yield page
        if not page.get("IsTruncated"):
            return
        request = request | {name: page[field] for field, name in cursor.items()}


def _request(operation: str, request: Mapping[str, str], s3: Any) -> dict[str, Any]:
    answer: dict[str, Any] = getattr(s3, operation)(**request)
    return answer


def _prefix(folder: URI) -> str:
    return f"{folder.key}/" if folder.key else ""


def _uri(folder: URI, key: str) -> URI:
    return URI("s3", folder.bucket, key)


def _age_s(since: datetime, answer: Mapping[str, Any]) -> float:
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return max(0.0, (now - since).total_seconds())
