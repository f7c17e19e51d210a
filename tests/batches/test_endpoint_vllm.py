"""An endpoint as the model of a batch run, against vLLM's own server."""

from __future__ import annotations

import pyarrow as pa
import pytest

from eksml.batches.models.endpoint import endpoint
from eksml.errors import InvalidSpec

ROWS = pa.table({"text": [f"Tell me about {topic}" for topic in ("cats", "rain", "tea")] * 20})

pytestmark = [pytest.mark.long, pytest.mark.timeout(460)]


def test_a_real_server_answers_every_row_and_counts_its_tokens(vllm_url: str) -> None:
    model = endpoint(
        vllm_url,
        model="tiny",
        prompt="{text}",
        system="Be brief.",
        sampling={"temperature": 0, "max_tokens": 8, "ignore_eos": True},
    )
    assert model.check(ROWS.schema) == []
    loaded = model.load()
    outcome = loaded.compute(ROWS)
    loaded.close()
    assert outcome.errors == {}
    answers = outcome.columns["generated_text"].to_pylist()
    assert answers == answers[:3] * 20  # greedy: the same question, the same answer
    assert len(set(answers)) == 3
    assert outcome.lengths["tokens_out"] == [8] * 60
    assert all(count > 8 for count in outcome.lengths["tokens_in"])


def test_a_row_that_the_server_refuses_is_an_error_with_its_words(vllm_url: str) -> None:
    table = pa.table({"text": ["word " * 5000, "short"]})
    loaded = endpoint(
        vllm_url, model="tiny", prompt="{text}", api="completions", sampling={"max_tokens": 4}
    ).load()
    outcome = loaded.compute(table)
    loaded.close()
    assert list(outcome.errors) == [0]
    assert "400" in outcome.errors[0]
    assert "512" in outcome.errors[0]  # the context, in tokens
    assert outcome.columns["generated_text"].null_count == 1


def test_an_answer_can_be_bound_to_choices(vllm_url: str) -> None:
    sampling = {"temperature": 1, "structured_outputs": {"choice": ["yes", "no"]}}
    loaded = endpoint(vllm_url, model="tiny", prompt="{text}", sampling=sampling).load()
    outcome = loaded.compute(ROWS)
    loaded.close()
    assert outcome.errors == {}
    assert set(outcome.columns["generated_text"].to_pylist()) <= {"yes", "no"}


def test_a_wrong_key_and_a_wrong_model_are_told(
    vllm_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = endpoint(vllm_url, model="tyni", prompt="{text}").load()
    with pytest.raises(InvalidSpec, match=r"model: 404.*tyni"):
        loaded.compute(ROWS)
    loaded.close()
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(InvalidSpec, match="api_key_env: 401"):
        endpoint(vllm_url, model="tiny", prompt="{text}").load()
