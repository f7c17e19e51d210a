"""``/v1/files``, by the official client of OpenAI."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from jobs_server import FILE_BYTES

from eksml.serving.batch_jobs.files import PART_BYTES
from eksml.storage import URI


def test_a_file_comes_back_as_it_was_uploaded(connect: Callable[..., Any], root: URI) -> None:
    client = connect()("ann")
    data = random.Random(0).randbytes(PART_BYTES * 2 + 12345)
    file = client.files.create(file=("prompts.jsonl", data), purpose="batch")
    assert (file.filename, file.purpose, file.bytes) == ("prompts.jsonl", "batch", len(data))
    assert client.files.content(file.id).read() == data
    assert client.files.retrieve(file.id) == file
    assert len(list((root / "tenants/ann/files" / file.id).list())) == 3  # 2 parts, 1 manifest


def test_a_deleted_file_is_gone(connect: Callable[..., Any], root: URI) -> None:
    client = connect()("ann")
    file = client.files.create(file=b"{}", purpose="batch")
    assert client.files.delete(file.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            call(file.id)
    assert list(root.list(recursive=True)) == []


def test_nobody_sees_the_files_of_another_tenant(connect: Callable[..., Any]) -> None:
    client_of = connect()
    file = client_of("ann").files.create(file=b"{}", purpose="batch")
    assert [shown.id for shown in client_of("ann").files.list()] == [file.id]
    bob = client_of("bob")
    assert list(bob.files.list()) == []
    for call in (bob.files.retrieve, bob.files.content, bob.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    with pytest.raises(openai.NotFoundError):
        bob.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )


def test_files_are_listed_newest_first_and_in_pages(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    made = [client.files.create(file=b"{}", purpose="batch").id for _ in range(5)]
    newest = sorted(made, reverse=True)
    page = client.files.list(limit=2)
    assert [file.id for file in page.data] == newest[:2]
    assert [file.id for file in page] == newest  # the client fetches the other pages
    assert [file.id for file in client.files.list(order="asc")] == newest[::-1]
    assert list(client.files.list(purpose="batch_output")) == []
    with pytest.raises(openai.BadRequestError, match="limit is '0'"):
        client.files.list(limit=0)


def test_everything_wrong_with_an_upload_is_said_at_once(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(
            file=b"",
            purpose="vision",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
    for told in ("expires_after", "file: is empty", "purpose: is 'vision'"):
        assert told in caught.value.message
    assert caught.value.type == "invalid_request_error"


def test_a_file_that_is_too_long_is_refused_and_leaves_nothing(
    connect: Callable[..., Any], root: URI
) -> None:
    client = connect()("ann")
    with pytest.raises(openai.APIStatusError, match="longer than") as caught:
        client.files.create(file=bytes(FILE_BYTES + 1), purpose="batch")
    assert caught.value.status_code == 413
    assert list(root.list(recursive=True)) == []


@pytest.mark.parametrize("name", ["..", "%2e%2e", "file-..", "file-" + "a" * 23, "x%00y", "a%2Fb"])
def test_a_name_that_is_no_id_is_no_file(connect: Callable[..., Any], name: str) -> None:
    client = connect()("ann")
    answer = httpx.get(f"{client.base_url}files/{name}/content", headers=client.auth_headers)
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=B", b"no boundary here"),
        ("multipart/form-data; boundary=B", b"--B\r\nContent-Disposition: form-data; na"),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nabc',
        ),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' * 2
            + b"--B--",
        ),
        (
            "multipart/form-data; boundary=B",
            b'--B\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n'
            + b"b" * 5000
            + b"\r\n--B--",
        ),
    ],
)
def test_a_broken_form_is_told_as_such(
    connect: Callable[..., Any], root: URI, kind: str, body: bytes
) -> None:
    client = connect()("ann")
    headers = {**client.auth_headers, "content-type": kind}
    answer = httpx.post(f"{client.base_url}files", headers=headers, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert list(root.list(recursive=True)) == []


def test_a_damaged_file_is_never_given_out(connect: Callable[..., Any], root: URI) -> None:
    client = connect()("ann")
    file = client.files.create(file=b"precious", purpose="batch")
    part = next(stat.uri for stat in root.list(recursive=True) if stat.uri.name.endswith(".part"))
    part.write_bytes(b"Precious")
    with pytest.raises(openai.InternalServerError, match="cannot be read"):
        client.files.content(file.id)
