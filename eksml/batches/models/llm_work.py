"""What is asked of an engine for each row and what is made of its answers, by kind of task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from eksml.batches.models.llm_adapters import Adapters
from eksml.batches.models.pictures import Pictures
from eksml.batches.models.prompts import Ask, Prompts, Template, Unaskable, with_picture
from eksml.batches.models.sampling import Sampling, row_sampling
from eksml.batches.models.structured import Form
from eksml.batches.models.vllm_engine import Answer, Engine, Refusal, Request
from eksml.batches.models.vllm_scoring import Scorer

if TYPE_CHECKING:
    import pyarrow as pa

Asked = tuple[Request, ...]
"""The requests of one row."""


class Work(Protocol):
    """This is the whole surface; one implementation for each kind of task."""

    def requests(self, table: pa.Table) -> list[Asked | Unaskable]:
        """What to ask for each row."""

    def value(self, answers: Sequence[Answer]) -> Any | Unaskable:
        """What the answers to one row's requests say, or why that is no result."""

    def again(self, asked: Asked, attempt: int) -> Asked | None:
        """What to ask when ``value`` found no result; None to leave it at that."""

    def column(self, values: Sequence[Any]) -> pa.Array:
        """The values of all rows as a column; None where there is none."""


class Generation:
    """Text that continues or answers a prompt.

    Args:
        engine: What is asked.
        prompts: What for.
        sampling: How tokens are chosen.
        sampling_column: Where rows say it themselves.
        adapters: Which one each row uses.
        form: What answers must look like.
        tries: Times that an answer which breaks the form is asked for again.
        chat: Whether text is the message of a user, in the model's chat template.
        system: The system message in front of it.
        pictures: What belongs to the prompts beside text.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: Prompts,
        sampling: Sampling,
        adapters: Adapters,
        *,
        sampling_column: str | None,
        form: Form,
        tries: int,
        chat: bool,
        system: str | None,
        pictures: Pictures | None = None,
    ) -> None:
        self._engine = engine
        self._pictures = pictures
        self._prompts = prompts
        self._sampling = sampling
        self._adapters = adapters
        self._column = sampling_column
        self._form = form
        self._tries = tries
        self._chat = chat
        self._system = system

    def requests(self, table: pa.Table) -> list[Asked | Unaskable]:
        """One request a row."""
        own: list[Any] = [None] * table.num_rows
        pictures = own if self._pictures is None else self._pictures.of(table)
        if self._column is not None:
            own = table.column(self._column).to_pylist()
        columns = self._prompts.of(table), pictures, own, self._adapters.of(table)
        return [self._request(*row) for row in zip(*columns, strict=True)]

    def value(self, answers: Sequence[Answer]) -> str | Unaskable:
        """The text, if it has the form."""
        (answer,) = answers
        breach = self._form.breach(answer.text)
        if breach is None:
            return answer.text
        cut = f" It was cut after {answer.tokens_out} tokens: raise max_tokens."
        return Unaskable(breach + (cut if answer.cut else ""))

    def again(self, asked: Asked, attempt: int) -> Asked | None:
        """The same with another seed."""
        if attempt > self._tries:
            return None
        (request,) = asked
        return (replace(request, params=self._sampling.of(request.settings, attempt)),)

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Texts."""
        import pyarrow as pa

        return pa.array(values, pa.string())

    def _request(
        self, ask: Ask | Unaskable, picture: Any, own: Any, adapter: Any
    ) -> Asked | Unaskable:
        for part in (ask, picture, adapter):
            if isinstance(part, Unaskable):
                return part
        try:
            settings = row_sampling(own)
            params = self._sampling.of(settings)
        except ValueError as error:
            told = f"{error}".rstrip(".")
            return Unaskable(f"Sampling parameters in column {self._column!r}: {told}.")
        written = self._written(ask, picture)  # type: ignore[arg-type]
        if isinstance(written, Unaskable):
            return written
        prompt = self._engine.render(written)
        if isinstance(prompt, Refusal):
            return Unaskable(prompt.reason)
        return (Request(prompt, params, adapter, settings),)

    def _written(self, ask: Ask, picture: Any) -> Ask | Unaskable:
        if isinstance(ask, str) and self._chat:
            ask = [{"role": "user", "content": ask}]
        if isinstance(ask, str):
            return ask
        if self._system is not None:
            ask = [{"role": "system", "content": self._system}, *ask]
        return ask if picture is None else with_picture(ask, picture)


class Pooling:
    """Numbers for a text: an embedding, or a probability for each class.

    Args:
        engine: What is asked.
        prompts: What for.
        adapters: Which one each row uses.
        task: ``embed`` or ``classify``.
    """

    def __init__(self, engine: Engine, prompts: Prompts, adapters: Adapters, task: str) -> None:
        from vllm import PoolingParams

        self._engine = engine
        self._prompts = prompts
        self._adapters = adapters
        self._params = PoolingParams(task=task)

    def requests(self, table: pa.Table) -> list[Asked | Unaskable]:
        """One request a row."""
        rows = zip(self._prompts.of(table), self._adapters.of(table), strict=True)
        return [self._request(*row) for row in rows]

    def value(self, answers: Sequence[Answer]) -> Any:
        """The numbers, of shape (n,)."""
        return answers[0].numbers

    def again(self, asked: Asked, attempt: int) -> Asked | None:
        """There is nothing to gain."""
        return None

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Lists of float32."""
        import numpy as np
        import pyarrow as pa

        there = [value for value in values if value is not None]
        flat = np.concatenate(there) if there else np.empty(0, np.float32)
        ends = np.cumsum([0, *(0 if value is None else len(value) for value in values)])
        missing = pa.array([*(value is None for value in values), False])
        offsets = pa.array(ends, pa.int32(), mask=missing.to_numpy(zero_copy_only=False))
        return pa.ListArray.from_arrays(offsets, pa.array(flat, pa.float32()))

    def _request(self, ask: Ask | Unaskable, adapter: Any) -> Asked | Unaskable:
        for part in (ask, adapter):
            if isinstance(part, Unaskable):
                return part
        prompt = self._engine.render(ask)  # type: ignore[arg-type]
        if isinstance(prompt, Refusal):
            return Unaskable(prompt.reason)
        return (Request(prompt, self._params, adapter),)


class Scoring:
    """How well a document answers a query.

    Args:
        scorer: How the model does it.
        pair: The columns of query and document.
    """

    def __init__(self, scorer: Scorer, pair: tuple[str, str]) -> None:
        self._scorer = scorer
        self._texts = [Template("{" + name + "}") for name in pair]

    def requests(self, table: pa.Table) -> list[Asked | Unaskable]:
        """One or two requests a row."""
        queries, documents = (text.of(table) for text in self._texts)
        return [self._pair(*row) for row in zip(queries, documents, strict=True)]

    def value(self, answers: Sequence[Answer]) -> float:
        """The score."""
        return self._scorer.score(answers)

    def again(self, asked: Asked, attempt: int) -> Asked | None:
        """There is nothing to gain."""
        return None

    def column(self, values: Sequence[Any]) -> pa.Array:
        """Numbers."""
        import pyarrow as pa

        return pa.array(values, pa.float32())

    def _pair(self, query: Any, document: Any) -> Asked | Unaskable:
        for part in (query, document):
            if isinstance(part, Unaskable):
                return part
        made = self._scorer.requests(query, document)
        return Unaskable(made.reason) if isinstance(made, Refusal) else made
