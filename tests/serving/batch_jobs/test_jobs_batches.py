"""``/v1/batches``, by the official client of OpenAI, with an engine that repeats the prompt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from jobs_client import ended, jsonl, lines, request, submit
from jobs_server import LINE_BYTES, MODEL, EchoEngine

from eksml.serving.batch_jobs import rows
from eksml.storage import URI


@pytest.fixture
def root(tmp_path: Path) -> URI:
    """A local folder: batches on S3 are computed where workers die, too."""
    return URI.parse(tmp_path / "root")


def test_a_batch_answers_every_line_once(connect: Callable[..., Any], root: URI) -> None:
    engine = EchoEngine()
    client = connect(engine)("ann")
    asked = [request(f"row-{n}", f"text {n} \u2028 ä") for n in range(200)]
    batch = ended(client, submit(client, jsonl(asked)))
    assert batch.status == "completed"
    assert batch.request_counts.to_dict() == {"total": 200, "completed": 200, "failed": 0}
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (600, 400)
    answers = lines(client, batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in asked]
    assert [answer["response"]["body"]["choices"][0]["message"] for answer in answers] == [
        {"role": "assistant", "content": line["body"]["messages"][0]["content"]} for line in asked
    ]
    assert {answer["response"]["status_code"] for answer in answers} == {200}
    assert len({answer["id"] for answer in answers}) == 200
    assert batch.error_file_id is None
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at


def test_rows_are_never_more_than_the_idle_slots(
    connect: Callable[..., Any],
) -> None:
    engine = EchoEngine(slots=8, pause_s=0.01)
    client = connect(engine)("ann")
    ended(client, submit(client, jsonl([request(f"{n}", "x") for n in range(100)])))
    assert engine.most == 7  # one slot is left for the next online request
    assert not any(body["stream"] for body in engine.bodies)


def test_an_ended_batch_leaves_its_records_and_files_only(
    connect: Callable[..., Any], root: URI
) -> None:
    client = connect(EchoEngine())("ann")
    batch = ended(client, submit(client, jsonl([request("a", "x")])))
    deadline = time.monotonic() + 20
    while list((root / "open").list()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    home = root / "tenants/ann/batches" / batch.id
    assert list((home / "blocks").list(recursive=True)) == []


def test_a_bad_row_stands_in_the_error_file_and_stops_nothing(
    connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_FIRST_PAUSE_S", 0.001)
    engine = EchoEngine()
    client = connect(engine)("ann")
    texts = ["good", "bad", "raise", "good"]
    asked = [request(f"{n}", text) for n, text in enumerate(texts)]
    batch = ended(client, submit(client, jsonl(asked)))
    assert batch.status == "completed"
    assert batch.request_counts.to_dict() == {"total": 4, "completed": 2, "failed": 2}
    assert [answer["custom_id"] for answer in lines(client, batch.output_file_id)] == ["0", "3"]
    bad, tripped = lines(client, batch.error_file_id)
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("1", 400)
    assert bad["response"]["body"]["error"]["message"] == "bad prompt"
    assert (tripped["custom_id"], tripped["response"]["status_code"]) == ("2", 500)
    asked_texts = [body["messages"][0]["content"] for body in engine.bodies]
    assert asked_texts.count("bad") == 1  # it will not get better
    assert asked_texts.count("raise") == 6


def test_an_input_with_wrong_lines_fails_before_anything_is_computed(
    connect: Callable[..., Any],
) -> None:
    engine = EchoEngine()
    client = connect(engine)("ann")
    wrong = [
        (b"{", "invalid_json_line"),
        (b"[" * 100_000, "invalid_json_line"),
        (b"3", "invalid_json_line"),
        (b"\xff\xfe", "invalid_json_line"),
        (jsonl([request("", "x")])[:-1], "missing_required_parameter"),
        (jsonl([request("first", "x")])[:-1], "duplicate_custom_id"),
        (jsonl([request("m", "x", method="GET")])[:-1], "invalid_method"),
        (jsonl([request("u", "x", url="/v1/embeddings")])[:-1], "mismatched_endpoint"),
        (jsonl([request("b", "x", body=[])])[:-1], "missing_required_parameter"),
        (jsonl([request("o", "x", body={"model": "other"})])[:-1], "mismatched_model"),
        (
            jsonl([request("s", "x", body={"model": MODEL, "stream": True})])[:-1],
            "invalid_parameter",
        ),
    ]
    data = jsonl([request("first", "x")]) + b"\n" + b"\n".join(line for line, _ in wrong)
    batch = ended(client, submit(client, data))
    assert batch.status == "failed"
    found = [(error.line, error.code) for error in batch.errors.data]
    assert found == [(number, code) for number, (_, code) in enumerate(wrong, 3)]
    assert engine.bodies == []
    assert batch.failed_at
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\n \n", "empty_file"),
        (b"x" * (LINE_BYTES + 1), "line_too_long"),
        (jsonl([request("a", "x" * LINE_BYTES)]), "line_too_long"),
    ],
)
def test_an_input_without_a_usable_line_fails(
    connect: Callable[..., Any], data: bytes, code: str
) -> None:
    client = connect(EchoEngine())("ann")
    batch = ended(client, submit(client, data))
    assert (batch.status, batch.errors.data[0].code) == ("failed", code)


def test_a_model_that_nobody_serves_is_told_at_once(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    with pytest.raises(openai.NotFoundError, match="Served here: echo"):
        submit(client, jsonl([request("a", "x", body={"model": "gpt-9", "messages": []})]))


def test_everything_wrong_with_a_batch_is_said_at_once(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(
            input_file_id="../x",
            endpoint="/v1/moderations",
            completion_window="soon",  # type: ignore[arg-type]
            metadata={"k": "v" * 513},
            output_expires_after={"anchor": "created_at", "seconds": 3600},
        )
    for told in ("input_file_id", "endpoint", "soon", "metadata", "output_expires_after"):
        assert told in caught.value.message


def test_a_cancelled_batch_keeps_what_it_has(connect: Callable[..., Any]) -> None:
    engine = EchoEngine()
    client = connect(engine)("ann")
    asked = [request(f"{n}", "hang" if n % 10 == 9 else "x") for n in range(100)]
    batch = submit(client, jsonl(asked))
    while len(engine.bodies) < 60:
        time.sleep(0.02)
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = ended(client, batch)
    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    answers = lines(client, batch.output_file_id)
    assert 50 <= len(answers) == batch.request_counts.completed < 100
    assert len({answer["custom_id"] for answer in answers}) == len(answers)
    assert engine.now == 0
    assert engine.cancelled > 0
    with pytest.raises(openai.ConflictError, match="is cancelled"):
        client.batches.cancel(batch.id)


def test_rows_without_an_answer_at_the_end_of_the_window_are_told_as_expired(
    connect: Callable[..., Any],
) -> None:
    client = connect(EchoEngine())("ann")
    asked = [request(f"{n}", "hang" if n % 10 == 9 else "x") for n in range(100)]
    batch = ended(client, submit(client, jsonl(asked), window="3s"))
    assert batch.status == "expired"
    assert batch.expired_at >= batch.expires_at
    good, bad = lines(client, batch.output_file_id), lines(client, batch.error_file_id)
    assert good
    ids = [answer["custom_id"] for answer in good + bad]
    assert sorted(ids, key=int) == [line["custom_id"] for line in asked]
    assert {answer["error"]["code"] for answer in bad} == {"batch_expired"}
    assert batch.request_counts.to_dict() == {
        "total": 100,
        "completed": len(good),
        "failed": len(bad),
    }


def test_a_batch_that_nobody_begins_expires(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    batch = submit(client, jsonl([request("a", "x")]), window="1s")
    assert batch.status == "validating"
    assert ended(client, batch).status == "expired"


def test_nobody_sees_the_batches_of_another_tenant(connect: Callable[..., Any]) -> None:
    client_of = connect(EchoEngine())
    ann, bob = client_of("ann"), client_of("bob")
    batch = ended(ann, submit(ann, jsonl([request("a", "x")])))
    assert [shown.id for shown in ann.batches.list()] == [batch.id]
    assert list(bob.batches.list()) == []
    for call in (bob.batches.retrieve, bob.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(batch.id)
    with pytest.raises(openai.NotFoundError):
        bob.files.content(batch.output_file_id)


def test_a_batch_whose_input_was_deleted_fails(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    batch = submit(client, jsonl([request("a", "x")]))
    client.files.delete(batch.input_file_id)
    batch = ended(connect(EchoEngine())("ann"), batch)
    assert batch.status == "failed"
    assert batch.errors.data[0].code == "file_not_found"


def test_metadata_and_order_of_batches_are_kept(connect: Callable[..., Any]) -> None:
    client = connect()("ann")
    file = client.files.create(file=jsonl([request("a", "x")]), purpose="batch")
    made = [
        client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"number": str(number)},
        )
        for number in range(3)
    ]
    shown = list(client.batches.list(limit=2))
    assert [batch.metadata for batch in shown] == [{"number": n} for n in "210"]
    assert {batch.model for batch in shown} == {MODEL}
    assert made[0].expires_at - made[0].created_at == 86_400


def test_a_short_batch_does_not_wait_for_another_tenants_long_one(
    connect: Callable[..., Any],
) -> None:
    client_of = connect(EchoEngine(slots=4, pause_s=0.01))
    ann, bob = client_of("ann"), client_of("bob")
    long = [submit(ann, jsonl([request(f"{n}", "x") for n in range(3000)])) for _ in range(5)]
    time.sleep(0.5)
    short = ended(bob, submit(bob, jsonl([request("a", "x")])))
    assert short.status == "completed"
    assert {ann.batches.retrieve(batch.id).status for batch in long} & {"in_progress"}
    for batch in long:
        ann.batches.cancel(batch.id)


def test_a_damaged_record_is_told_and_not_served(connect: Callable[..., Any], root: URI) -> None:
    client = connect()("ann")
    batch = submit(client, jsonl([request("a", "x")]))
    manifest = root / "tenants/ann/batches" / batch.id / "asked/manifest.json"
    manifest.write_bytes(json.dumps({**manifest.read_json(), "meta": {}}).encode())
    with pytest.raises(openai.InternalServerError, match="cannot be read"):
        client.batches.retrieve(batch.id)


def test_one_damaged_batch_does_not_stop_the_others(connect: Callable[..., Any], root: URI) -> None:
    client = connect()("ann")
    damaged = submit(client, jsonl([request("a", "x")]))
    (root / "tenants/ann/batches" / damaged.id / "asked/manifest.json").write_bytes(b"{}")
    (root / "open/batch_0.json").write_json({"tenant": 3})
    client = connect(EchoEngine())("ann")
    assert ended(client, submit(client, jsonl([request("a", "x")]))).status == "completed"


def test_two_workers_share_the_batches_of_one_tenant(connect: Callable[..., Any]) -> None:
    first, second = EchoEngine(slots=3, pause_s=0.02), EchoEngine(slots=3, pause_s=0.02)
    client = connect(first)("ann")
    connect(second)
    asked = jsonl([request(f"{n}", "x") for n in range(40)])
    for batch in [submit(client, asked) for _ in range(6)]:
        assert ended(client, batch).request_counts.completed == 40
    assert first.bodies
    assert second.bodies
    assert len(first.bodies) + len(second.bodies) == 240  # no row twice
