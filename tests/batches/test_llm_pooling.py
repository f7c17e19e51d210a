"""Embeddings, classes and scores from real vLLM engines on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from real_models import minilm
from tiny_llm import tiny_cross_encoder

from eksml.batches.models import llm
from eksml.batches.models.llm_adapters import Adapters
from eksml.batches.models.llm_loaded import LoadedLLM
from eksml.batches.models.vllm_engine import Engine
from eksml.errors import InvalidSpec

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SENTENCES = [
    "A cat sleeps on the warm sofa.",
    "The kitten is napping on the couch.",
    "Interest rates rose by half a percent.",
    None,
    "word " * 2000,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Iterator[LoadedLLM]:
    model = llm(str(minilm(folder / "minilm")), task="embed", prompt="{text}", device="cpu")
    loaded = model.load()
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def judge(folder: Path) -> Iterator[LoadedLLM]:
    place = tiny_cross_encoder(folder / "judge", minilm(folder / "minilm"))
    loaded = llm(str(place), task="score", pair=("query", "document"), device="cpu").load()
    yield loaded
    loaded.close()


def on(engine: Engine, **fields: object) -> LoadedLLM:
    """Another task on an engine that runs already."""
    model = llm("loaded/already", **fields)  # type: ignore[arg-type]
    work = model.work_on(engine, Adapters({}, None, None))
    return LoadedLLM(engine, work, model.column, threads=1, load_s=0.0)


def reference(place: Path, texts: list[str]) -> np.ndarray:
    """The mean of the last hidden states, of length 1, as sentence-transformers defines it."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(place)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(place)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    means = (states * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(means).numpy()


def test_embeddings_are_the_models_and_tell_what_is_alike(
    embedder: LoadedLLM, folder: Path
) -> None:
    outcome = embedder.compute(pa.table({"text": SENTENCES}))

    column = outcome.columns["embedding"]
    assert column.type == pa.list_(pa.float32())
    assert set(outcome.errors) == {3, 4}
    assert column.null_count == 2
    cat, kitten, rates = (np.array(vector) for vector in column.to_pylist()[:3])
    assert cat @ kitten > 0.6 > 0.2 > cat @ rates
    wanted = reference(folder / "minilm", [text for text in SENTENCES[:3] if text])
    assert np.sum(np.stack([cat, kitten, rates]) * wanted, axis=1).min() > 0.999
    assert [len(outcome.lengths[name]) for name in ("tokens_in", "tokens_out")] == [3, 3]


def test_an_embedding_model_scores_pairs_by_the_cosine(embedder: LoadedLLM) -> None:
    table = pa.table(
        {
            "q": ["Where does the cat sleep?", "Where does the cat sleep?", None],
            "d": [SENTENCES[0], SENTENCES[2], "x"],
        }
    )

    outcome = on(embedder.engine, task="score", pair=("q", "d")).compute(table)

    near, far, missing = outcome.columns["score"].to_pylist()
    assert 1 > near > 0.4 > 0.2 > far
    assert missing is None
    assert set(outcome.errors) == {2}


def test_a_model_that_cannot_do_the_task_is_told(embedder: LoadedLLM) -> None:
    with pytest.raises(InvalidSpec, match="cannot generate; it can"):
        on(embedder.engine, task="generate", prompt="{text}")


def test_a_cross_encoder_reads_both_texts_together(judge: LoadedLLM, folder: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    pairs = [("where is the cat", "on the sofa"), ("what rose", "interest rates"), ("a", "b c d")]
    table = pa.table(
        {"query": [pair[0] for pair in pairs], "document": [pair[1] for pair in pairs]}
    )

    outcome = judge.compute(table)

    place = folder / "judge"
    tokens = AutoTokenizer.from_pretrained(place)(
        [list(pair) for pair in pairs], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = AutoModelForSequenceClassification.from_pretrained(place)(**tokens).logits
    wanted = logits[:, 0].numpy()
    scores = outcome.columns["score"].to_numpy()
    assert outcome.errors == {}
    assert np.log(scores / (1 - scores)) == pytest.approx(wanted, abs=0.3)  # in bfloat16
    assert wanted.max() - wanted.min() > 2


def test_classes_come_as_a_list_of_probabilities(judge: LoadedLLM) -> None:
    outcome = on(judge.engine, task="classify", prompt="{text}").compute(
        pa.table({"text": ["one", None, "two three"]})
    )

    column = outcome.columns["probabilities"]
    assert column.type == pa.list_(pa.float32())
    assert [None if row is None else len(row) for row in column.to_pylist()] == [1, None, 1]
