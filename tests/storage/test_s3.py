"""What goes wrong with S3, each told once, with the place and the remedy, and without secrets."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator

import botocore.exceptions as botocore_errors
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from eksml.errors import (
    AccessDenied,
    AlreadyExists,
    InvalidSpec,
    NotFound,
    StorageError,
    StorageUnavailable,
)
from eksml.storage import URI, s3_client, s3_errors, sweep
from eksml.storage.s3_client import TRIES
from eksml.storage.s3_transfer import PART_BYTES
from eksml.testing import FaultProxy, S3Server

PLACE = URI.parse("s3://models/digits")
LARGE = bytes(PART_BYTES + 1)


@pytest.fixture
def proxy(
    s3_server: S3Server, bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    monkeypatch.setattr(s3_client, "_LONGEST_WAIT_S", 0.05)
    with FaultProxy(s3_server.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def client_error(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchBucket", 404, NotFound),
        ("NoSuchKey", 404, NotFound),
        ("404", 404, NotFound),
        ("AccessDenied", 403, AccessDenied),
        ("403", 403, AccessDenied),
        ("SignatureDoesNotMatch", 403, AccessDenied),
        ("InvalidAccessKeyId", 403, AccessDenied),
        ("ExpiredToken", 400, AccessDenied),
        ("InvalidToken", 400, AccessDenied),
        ("RequestTimeTooSkewed", 403, AccessDenied),
        ("AnythingNew", 403, AccessDenied),
        ("PreconditionFailed", 412, AlreadyExists),
        ("ConditionalRequestConflict", 409, StorageUnavailable),
        ("SlowDown", 503, StorageUnavailable),
        ("ServiceUnavailable", 503, StorageUnavailable),
        ("InternalError", 500, StorageUnavailable),
        ("AnythingNew", 502, StorageUnavailable),
        ("RequestTimeout", 400, StorageUnavailable),
        ("Throttling", 429, StorageUnavailable),
        ("MalformedXML", 400, StorageError),
    ],
)
def test_every_answer_of_s3_has_an_error_of_ours(
    code: str, status: int, expected: type[StorageError]
) -> None:
    error = s3_errors.translate(
        client_error(code, status), PLACE, tries=5, endpoint="http://user:secret@host:1"
    )
    assert type(error) is expected
    assert "models" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, AccessDenied) for name in sorted(s3_errors.NO_CREDENTIALS)),
        *((name, StorageUnavailable) for name in sorted(s3_errors.UNREACHABLE)),
        ("ConnectTimeoutError", StorageUnavailable),
        ("ReadTimeoutError", StorageUnavailable),
        ("ConnectionClosedError", StorageUnavailable),
        ("SSLError", StorageUnavailable),
        ("ProxyConnectionError", StorageUnavailable),
        ("ParamValidationError", StorageError),
    ],
)
def test_every_exception_of_botocore_has_an_error_of_ours(
    name: str, expected: type[StorageError]
) -> None:
    # botocore has an exception of that name (else the table would be wrong)
    kind = getattr(botocore_errors, name, None)
    if kind is None:
        from botocore import parsers

        kind = getattr(parsers, name)
    error = s3_errors.translate(kind.__new__(kind), PLACE, tries=5, endpoint="http://host:1")
    assert type(error) is expected


def test_no_exception_of_botocore_falls_through() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(botocore_errors, inspect.isclass)
        if issubclass(kind, BotoCoreError)
    ]
    assert len(kinds) > 50
    for kind in kinds:
        error = s3_errors.translate(kind.__new__(kind), PLACE, tries=1, endpoint="")
        assert isinstance(error, StorageError), kind


def test_a_missing_bucket_is_named(bucket: URI) -> None:
    place = URI.parse("s3://no-such-bucket/runs")
    with pytest.raises(NotFound, match="The bucket 'no-such-bucket' does not exist"):
        place.check_writable()
    with pytest.raises(NotFound, match="The bucket 'no-such-bucket' does not exist"):
        list(place.list())


def test_missing_credentials_are_told_with_the_remedy(
    bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(
        AccessDenied, match=r"No valid AWS credentials.*aws configure.*Pod Identity"
    ):
        bucket.check_writable()


def test_an_unknown_profile_is_told_as_credentials(
    bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(AccessDenied, match="ProfileNotFound"):
        bucket.check_writable()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_told_without_showing_them(
    bucket: URI, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-and-confidential")
    with pytest.raises(AccessDenied, match="wrong or have expired") as caught:
        bucket.check_writable()
    assert "confidential" not in str(caught.value)
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in str(caught.value)


def test_an_endpoint_that_is_no_address_is_refused(
    bucket: URI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "not an address")
    with pytest.raises(InvalidSpec, match="AWS_ENDPOINT_URL"):
        bucket.check_writable()


def test_a_call_is_tried_five_times_and_no_more(proxy: FaultProxy, bucket: URI) -> None:
    for _ in range(TRIES):
        proxy.once("503", target="run.json")
    with pytest.raises(StorageUnavailable, match="in 5 tries: SlowDown"):
        (bucket / "run.json").write_json(1)
    assert [seen.fault for seen in proxy.seen] == ["503"] * TRIES


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["one request", "multipart"])
def test_a_conditional_write_whose_answer_was_lost_still_succeeds(
    proxy: FaultProxy, bucket: URI, data: bytes
) -> None:
    last = {"method": "POST", "target": "uploadId="} if data is LARGE else {"method": "PUT"}
    proxy.once("lost", **last)
    (bucket / "lease").write_bytes(data, if_absent=True)
    assert proxy.faults == {"lost": 1}
    assert (bucket / "lease").read_bytes() == data
    with pytest.raises(AlreadyExists):
        (bucket / "lease").write_bytes(data, if_absent=True)


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["one request", "multipart"])
def test_a_conditional_write_that_met_another_is_tried_again(
    proxy: FaultProxy, bucket: URI, data: bytes
) -> None:
    last = {"method": "POST", "target": "uploadId="} if data is LARGE else {"method": "PUT"}
    proxy.once("409", **last)
    (bucket / "lease").write_bytes(data, if_absent=True)
    assert proxy.faults == {"409": 1}
    assert (bucket / "lease").read_bytes() == data


def test_an_answer_that_is_cut_is_read_again(proxy: FaultProxy, bucket: URI) -> None:
    data = os.urandom(PART_BYTES + PART_BYTES // 2)
    (bucket / "large").write_bytes(data)
    proxy.once("cut", method="GET")  # the first part, once more, the second part, once more
    proxy.once("cut", method="GET", skip=1)
    assert (bucket / "large").read_bytes() == data
    assert proxy.faults == {"cut": 2}


def test_a_multipart_upload_that_fails_is_aborted(proxy: FaultProxy, bucket: URI) -> None:
    for _ in range(TRIES):
        proxy.once("503", target="partNumber=2")
    with pytest.raises(StorageUnavailable):
        (bucket / "large").write_bytes(LARGE)
    assert not (bucket / "large").exists()
    assert sweep(bucket, older_than_s=0) == []
    assert any(seen.method == "DELETE" for seen in proxy.seen)
