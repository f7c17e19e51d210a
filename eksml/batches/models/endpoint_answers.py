"""One request in OpenAI's protocol, and what its answers are as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eksml.batches.models.base import Outcome
from eksml.batches.models.prompts import Ask
from eksml.batches.models.row_tasks import RowFailed

if TYPE_CHECKING:
    from eksml.batches.models.endpoint import Endpoint


@dataclass(frozen=True)
class Answer:
    """What the server said for one row."""

    value: Any
    """Text, or a list of floats."""
    tokens_in: int
    tokens_out: int

    @property
    def tokens(self) -> int:
        """Both."""
        return self.tokens_in + self.tokens_out


async def send(client: Any, model: Endpoint, ask: Ask) -> Answer:
    """Ask once.

    Raises:
        RowFailed: The answer is none, or the row asks what this route cannot be asked.
        openai.OpenAIError: Any other failure.
    """
    fields = {"model": model.model, "extra_body": model.sampling}
    if model.api == "chat":
        reply = await client.chat.completions.create(messages=_messages(model, ask), **fields)
        return _answer(reply, lambda: reply.choices[0].message.content)
    if not isinstance(ask, str):
        raise RowFailed(f"The row asks with messages, and api={model.api!r} takes only text.")
    if model.api == "completions":
        reply = await client.completions.create(prompt=ask, **fields)
        return _answer(reply, lambda: reply.choices[0].text)
    reply = await client.embeddings.create(input=ask, encoding_format="float", **fields)
    return _answer(reply, lambda: reply.data[0].embedding)


def _messages(model: Endpoint, ask: Ask) -> list[dict[str, str]]:
    asked = [{"role": "user", "content": ask}] if isinstance(ask, str) else ask
    return [{"role": "system", "content": model.system}, *asked] if model.system else asked


def _answer(reply: Any, value: Any) -> Answer:
    try:
        found = value()
    except (AttributeError, IndexError, TypeError) as error:
        raise RowFailed(f"The server's answer is none: {reply!r:.200}") from error
    if found is None:
        raise RowFailed(f"The server answered without text: {reply!r:.200}")
    usage = getattr(reply, "usage", None)
    return Answer(
        found,
        getattr(usage, "prompt_tokens", None) or 0,
        getattr(usage, "completion_tokens", None) or 0,
    )


def outcome_of(answers: Sequence[Answer | RowFailed], column: str, api: str) -> Outcome:
    """Answers, in the rows' order, as a column."""
    import pyarrow as pa

    kind = pa.list_(pa.float32()) if api == "embeddings" else pa.string()
    good = [answer for answer in answers if isinstance(answer, Answer)]
    values = [answer.value if isinstance(answer, Answer) else None for answer in answers]
    return Outcome(
        pa.table({column: pa.array(values, kind)}),
        {row: str(failed) for row, failed in enumerate(answers) if isinstance(failed, RowFailed)},
        {
            "tokens_in": [answer.tokens_in for answer in good],
            "tokens_out": [answer.tokens_out for answer in good],
        },
    )
