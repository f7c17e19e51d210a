"""How well a document answers a query, by vLLM: a cross-encoder, or two embeddings' cosine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from eksml.batches.models.vllm_engine import Answer, Engine, Refusal, Request
from eksml.errors import InvalidSpec, Problem


class Scorer(Protocol):
    """This is the whole surface."""

    def requests(self, query: str, document: str) -> tuple[Request, ...] | Refusal:
        """What the engine is to be asked about a pair."""

    def score(self, answers: Sequence[Answer]) -> float:
        """The score that the answers give, in the order of the requests."""


class CrossEncoder:
    """Reads both texts together. The score is what the model gives, mostly from 0 to 1."""

    def __init__(self, engine: Engine, processor: Any) -> None:
        self._engine = engine
        self._processor = processor

    def requests(self, query: str, document: str) -> tuple[Request, ...] | Refusal:
        """One request with both texts, joined as the model wants it."""
        from vllm import PoolingParams

        asked = {
            "data_1": query,
            "data_2": document,
            "chat_template": None,
            "max_tokens_per_query": 0,
            "max_tokens_per_doc": 0,
            "tok_params": self._engine.llm.renderer.default_cmpl_tok_params,
            "prompt_extras": None,
            "params": PoolingParams(task="classify"),
            "lora_requests": None,
            "priorities": 0,
        }
        made = self._engine.rendered(lambda: self._processor.render(asked))
        if isinstance(made, Refusal):
            return made
        return (Request(made["prompts"], made["params"]),)

    def score(self, answers: Sequence[Answer]) -> float:
        """The one number that the model gave."""
        (answer,) = answers
        assert answer.numbers is not None
        return float(answer.numbers[0])


class BiEncoder:
    """Reads each text alone. The score is the cosine of their embeddings, from -1 to 1."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def requests(self, query: str, document: str) -> tuple[Request, ...] | Refusal:
        """One request for each text."""
        from vllm import PoolingParams

        made = [self._engine.render(text) for text in (query, document)]
        for prompt in made:
            if isinstance(prompt, Refusal):
                return prompt
        return tuple(Request(prompt, PoolingParams(task="embed")) for prompt in made)

    def score(self, answers: Sequence[Answer]) -> float:
        """The cosine of both embeddings."""
        import numpy as np

        query, document = (answer.numbers for answer in answers)
        assert query is not None
        assert document is not None
        length = float(np.linalg.norm(query) * np.linalg.norm(document))
        return float(query @ document) / length if length else 0.0


def scorer(engine: Engine, tasks: Sequence[str]) -> Scorer:
    """The way in which this model scores.

    Args:
        engine: A running engine of a pooling model.
        tasks: What vLLM says that the model can do.

    Raises:
        InvalidSpec: It cannot.
    """
    from vllm.entrypoints.pooling.factories import init_pooling_io_processors
    from vllm.renderers.chat_utils import ChatTemplateConfig

    llm = engine.llm
    known = init_pooling_io_processors(
        tuple(tasks), llm.vllm_config, llm.renderer, ChatTemplateConfig()
    )
    if "cross-encoder" in known:
        return CrossEncoder(engine, known["cross-encoder"])
    if "bi-encoder" in known:
        return BiEncoder(engine)
    told = f"This model does not score pairs of texts; it can {', '.join(tasks)}."
    remedy = "Use an embedding model, or a classifier with one label."
    raise InvalidSpec([Problem("task", told, remedy)], "the model")
