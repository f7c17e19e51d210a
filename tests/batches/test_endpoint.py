"""An endpoint as the model of a batch run, against a server that fails in every way."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from openai_server import OpenAIFaults

from eksml.batches.models.endpoint import endpoint
from eksml.errors import EngineDied, InvalidSpec

SCHEMA = pa.schema([("text", pa.string()), ("talk", pa.string())])


@pytest.fixture
def server() -> Iterator[OpenAIFaults]:
    with OpenAIFaults() as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits are a hundredth of what they are; how long they are is tested by itself."""
    from eksml.batches.models import backoff

    monkeypatch.setattr(backoff, "FIRST_S", 0.005)


def ask(server: OpenAIFaults, texts: list[str | None], **options: Any) -> Any:
    options = {"model": "m", "prompt": "{text}", "retries": 2, "timeout_s": 5} | options
    loaded = endpoint(server.url, **options).load()
    try:
        return loaded.compute(pa.table({"text": pa.array(texts, pa.string())}))
    finally:
        loaded.close()
        loaded.close()


def test_answers_come_in_the_rows_order_with_their_tokens(server: OpenAIFaults) -> None:
    outcome = ask(server, [f"ok: row {row}" for row in range(100)])
    assert outcome.columns.to_pydict() == {"generated_text": [f"ROW {row}" for row in range(100)]}
    assert outcome.errors == {}
    assert outcome.lengths["tokens_in"] == [3] * 100
    assert outcome.lengths["tokens_out"][:1] == [5]


def test_the_request_holds_the_model_the_system_message_and_the_sampling(
    server: OpenAIFaults,
) -> None:
    ask(server, ["ok: a"], system="Be brief.", sampling={"temperature": 0, "top_k": 3})
    assert server.bodies == [
        {
            "model": "m",
            "temperature": 0,
            "top_k": 3,
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "ok: a"},
            ],
        }
    ]


def test_completions_and_embeddings_have_routes_and_columns_of_their_own(
    server: OpenAIFaults,
) -> None:
    assert ask(server, ["ok: a"], api="completions", output="out").columns.to_pydict() == {
        "out": ["A"]
    }
    columns = ask(server, ["ok: abc", "400: x"], api="embeddings").columns
    assert columns.to_pydict() == {"embedding": [[3.0, 0.5], None]}
    assert columns.schema.field("embedding").type == pa.list_(pa.float32())


def test_a_column_of_messages_or_a_function_says_what_is_asked(server: OpenAIFaults) -> None:
    talk = [{"role": "user", "content": "ok: from a column"}]
    table = pa.table({"talk": [json.dumps(talk), "no list"], "text": ["a", "b"]})
    loaded = endpoint(server.url, model="m", messages="talk").load()
    outcome = loaded.compute(table)
    loaded.close()
    assert outcome.columns["generated_text"].to_pylist() == ["FROM A COLUMN", None]
    assert "no JSON list of messages" in outcome.errors[1]

    loaded = endpoint(server.url, model="m", prompt=lambda row: f"ok: {row['text'] * 2}").load()
    outcome = loaded.compute(table)
    loaded.close()
    assert outcome.columns["generated_text"].to_pylist() == ["AA", "BB"]


@pytest.mark.parametrize("fault", ["429", "500", "503", "408", "cut"])
def test_what_passes_is_tried_again(server: OpenAIFaults, fault: str) -> None:
    outcome = ask(server, [f"{fault},{fault},ok: done", "ok: other"])
    assert outcome.columns["generated_text"].to_pylist() == ["DONE", "OTHER"]
    assert server.seen[f"{fault},{fault},ok: done"] == 3


def test_a_request_that_hangs_is_given_up_and_tried_again(server: OpenAIFaults) -> None:
    outcome = ask(server, ["hang,ok: done", "hang: for ever"], timeout_s=1.5, retries=1)
    assert outcome.columns["generated_text"].to_pylist() == ["DONE", None]
    assert outcome.errors == {1: "No answer within 1.5 s (after 2 tries)"}


@pytest.mark.parametrize(
    ("prompt", "tries", "told"),
    [
        ("400: bad", 1, "400: refused with 400"),
        ("422: bad", 1, "422: refused with 422"),
        ("500: bad", 3, "(after 3 tries)"),
        ("429: bad", 3, "(after 3 tries)"),
        ("empty: bad", 1, "The server's answer is none"),
        ("text: bad", 1, "The server's answer is none"),
        ("cut: bad", 3, "(after 3 tries)"),
    ],
)
def test_what_does_not_pass_is_an_error_of_that_row(
    server: OpenAIFaults, prompt: str, tries: int, told: str
) -> None:
    outcome = ask(server, [prompt, *(f"ok: {row}" for row in range(40))], max_in_flight=2)
    assert list(outcome.errors) == [0]
    assert told in outcome.errors[0]
    assert server.seen[prompt] == tries
    assert outcome.columns["generated_text"].null_count == 1
    assert len(outcome.lengths["tokens_in"]) == 40


def test_a_null_in_the_prompt_s_column_is_an_error_of_that_row(server: OpenAIFaults) -> None:
    outcome = ask(server, [None, "ok: a"])
    assert "is null" in outcome.errors[0]
    assert server.seen.total() == 1


def test_retry_after_holds_the_other_rows_back_too(server: OpenAIFaults) -> None:
    loaded = endpoint(server.url, model="m", prompt="{text}", retries=0).load()
    assert list(loaded.compute(pa.table({"text": ["429: first"]})).errors) == [0]
    loaded.compute(pa.table({"text": ["ok: second"]}))
    loaded.close()
    first, second = server.at_s
    assert second - first >= 0.19


def test_no_more_requests_are_in_flight_than_allowed(server: OpenAIFaults) -> None:
    loaded = endpoint(server.url, model="m", prompt="{text}", max_in_flight=5).load()
    table = pa.table({"text": [f"ok: {row}" for row in range(40)]})
    callers = [threading.Thread(target=loaded.compute, args=(table,)) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert server.most_in_flight == 5
    assert 0.5 < loaded.busy()["occupancy"] <= 1
    loaded.close()


def test_requests_a_minute_are_kept_and_shared_by_the_workers(server: OpenAIFaults) -> None:
    model = endpoint(server.url, model="m", prompt="{text}", requests_per_minute=1200)
    loaded = model.load(workers=2)
    loaded.compute(pa.table({"text": [f"ok: {row}" for row in range(20)]}))
    loaded.close()
    # 600 a minute for this worker: 10 at once, then one every 0.1 s
    assert server.at_s[-1] - server.at_s[0] >= 0.95


def test_tokens_a_minute_are_counted_as_the_server_tells_them(server: OpenAIFaults) -> None:
    texts = [f"ok: {row:095d}" for row in range(4)]  # 25 tokens guessed, 98 told
    ask(server, texts, tokens_per_minute=6000, max_in_flight=1)
    # 100 a second: the first three cost 3 · 98, of which a burst of 100 is free
    assert server.at_s[-1] - server.at_s[0] >= (3 * 98 + 25 - 100) / 100 - 0.3


def test_a_server_that_is_not_there_is_told_before_any_row() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(InvalidSpec, match=r"cannot be reached.*Start the server"):
        endpoint(url, model="m", prompt="{text}", retries=1).load()


def test_a_server_that_goes_away_ends_the_worker_and_fails_no_rows(server: OpenAIFaults) -> None:
    with OpenAIFaults() as other:
        loaded = endpoint(other.url, model="m", prompt="{text}", retries=2).load()
        table = pa.table({"text": [f"ok: {row}" for row in range(50)]})
        assert loaded.compute(table).errors == {}
    with pytest.raises(EngineDied, match="cannot be reached"):
        loaded.compute(table)
    loaded.close()


def test_a_server_that_dies_under_requests_fails_no_rows() -> None:
    with OpenAIFaults() as other:
        loaded = endpoint(
            other.url, model="m", prompt="{text}", retries=2, max_in_flight=4, timeout_s=5
        ).load()
        table = pa.table({"text": [f"ok: {row}" for row in range(500)]})
        dying = threading.Thread(target=stop_after, args=(other, 20))
        dying.start()
        with pytest.raises(EngineDied, match="cannot be reached"):
            loaded.compute(table)
        dying.join()
        loaded.close()


def stop_after(server: OpenAIFaults, requests: int) -> None:
    while len(server.bodies) < requests:
        time.sleep(0.001)
    server.break_off()


def test_a_row_that_breaks_every_connection_is_an_error_of_that_row(server: OpenAIFaults) -> None:
    assert list(ask(server, ["cut: bad"]).errors) == [0]


def test_a_server_without_a_list_of_models_is_fine() -> None:
    with OpenAIFaults(models=False) as server:
        assert ask(server, ["ok: a"]).errors == {}


def test_a_model_that_the_server_does_not_know_ends_the_run(server: OpenAIFaults) -> None:
    with pytest.raises(InvalidSpec, match="model: 404"):
        ask(server, ["404: a", "ok: b"])


def test_the_key_is_read_in_the_worker_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    right, wrong = "sk-right-0123456789", "sk-wrong-9876543210"
    with OpenAIFaults(key=right) as server:
        model = endpoint(server.url, model="m", prompt="{text}", api_key_env="MY_KEY")
        monkeypatch.setenv("MY_KEY", right)
        assert right.encode() not in pickle.dumps(model)
        assert right not in json.dumps(model.describe())
        loaded = pickle.loads(pickle.dumps(model)).load()
        assert loaded.compute(pa.table({"text": ["ok: a"]})).errors == {}
        loaded.close()
        monkeypatch.setenv("MY_KEY", wrong)
        with pytest.raises(InvalidSpec, match="api_key_env: 401") as refused:
            model.load()
        assert wrong not in str(refused.value)
        monkeypatch.delenv("MY_KEY")
        with pytest.raises(InvalidSpec, match=r"api_key_env: 401.* MY_KEY is not set where"):
            model.load()
    assert "sk-" not in "".join(capfd.readouterr())


def problems_of(url: str = "http://h:1/v1", **options: Any) -> str:
    options = {"model": "m", "prompt": "{text}"} | options
    return "\n".join(str(problem) for problem in endpoint(url, **options).check(SCHEMA))


def test_what_cannot_work_is_told_before_anything_starts() -> None:
    assert problems_of() == ""
    assert problems_of(prompt=None, messages="talk") == ""
    assert "'ftp://h/v1' is no address" in problems_of("ftp://h/v1")
    assert "is no address" in problems_of("http://h:port/v1")
    assert "is no address" in problems_of("h:8000/v1")
    hidden = problems_of("https://me:secret@h/v1")
    assert "would be recorded" in hidden
    assert "secret" not in hidden
    assert "no column 'txt'. Did you mean 'text'?" in problems_of(prompt="{txt}")
    assert "no column 'tlk'. Did you mean 'talk'?" in problems_of(prompt=None, messages="tlk")
    assert "no template" in problems_of(prompt="{text")
    assert "Either prompt or messages" in problems_of(messages="talk")
    assert "Either prompt or messages" in problems_of(prompt=None)
    assert "neither a template nor a function" in problems_of(prompt=3)
    assert "'stream' is set by eksml" in problems_of(sampling={"stream": True})
    assert "Did you mean 'temperature'?" in problems_of(sampling={"temprature": 0})
    assert problems_of(sampling={"guided_choice": ["a"], "min_p": 0.1}) == ""
    assert "has no effect with api='embeddings'" in problems_of(api="embeddings", system="Hi.")
    assert "'lock'" in problems_of(prompt=holding_a_lock())


def holding_a_lock() -> Any:
    lock = threading.Lock()
    return lambda row: str(lock)


def test_all_problems_are_told_at_once() -> None:
    assert problems_of("ftp://h", prompt="{text", sampling={"n": 2}).count("\n") == 2


def test_wrong_options_are_refused_together() -> None:
    with pytest.raises(InvalidSpec) as refused:
        endpoint("http://h/v1", model="", prompt="{text}", max_in_flight=0, timeout_s=0)
    assert len(refused.value.problems) == 3


def test_models_that_compute_alike_describe_themselves_alike() -> None:
    one = endpoint("http://h/v1", model="m", prompt="{text}").describe()
    same = endpoint("http://h/v1", model="m", prompt="{text}", max_in_flight=1, retries=0)
    assert same.describe() == one
    assert endpoint("http://h/v1", model="m", prompt="{text}!").describe() != one
    made = endpoint("http://h/v1", model="m", prompt=lambda row: row["text"]).describe()
    assert made != endpoint("http://h/v1", model="m", prompt=lambda row: row["talk"]).describe()
    json.dumps(made)
