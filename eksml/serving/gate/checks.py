"""What a request to the engine must look like, before the engine hears of it.

Only what could do harm or cost is looked at; the rest is vLLM's to check. All problems are told at
once.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from eksml.errors import Problem
from eksml.serving.gate.errors import Refused
from eksml.serving.gate.grammars import grammar_problems
from eksml.serving.gate.prompts import MOST_SEQUENCES, Prompts
from eksml.serving.spec import AppSpec

EXPECTED_TOKENS = 512
"""Reserved for an answer whose length the client leaves open; what it really took is settled."""
LONGEST_TOKEN = 256
"""No token of a vocabulary in use stands for more characters (128 blanks are the longest known), so
a longer prompt cannot fit, whatever it says. vLLM looks again with its tokenizer's own figure."""
MOST_TOLD = 10
"""Problems that one message tells."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_LENGTHS = ("max_tokens", "max_completion_tokens")
_CLOSED = {
    "kv_transfer_params": "would name another engine to exchange memory with",
    "ec_transfer_params": "would name another engine to exchange memory with",
    "prompt_embeds": "would be loaded as a tensor",
    "chat_template": "would be run as a program on the server",
    "media_io_kwargs": "would change how much of a video is read into memory",
    "mm_processor_kwargs": "would change how much memory images take",
}
"""Extensions of vLLM that are not for clients of a shared server, and why."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the gate has to know of a request that may pass."""

    model: str
    prompt_tokens: int
    """Estimate."""
    tokens: int
    """Estimate of prompt and all answers together."""


def check(asked: Mapping[str, Any], path: str, spec: AppSpec, context: int) -> Asked:
    """Look at a request.

    Args:
        asked: The parsed body.
        path: Which route of ``/v1`` it is sent to.
        spec: The application's.
        context: Most tokens that the engine takes.

    Raises:
        Refused: With every problem: 404 if the model alone is unknown, else 400.
    """
    prompts = Prompts(asked, path, spec.limits.media)
    found = itertools.chain(
        _model(asked.get("model"), spec),
        _numbers(asked, spec.limits.n, context),
        prompts.look(),
        _fit(prompts, asked, context),
        _closed(asked),
        grammar_problems(asked),
    )
    # No more are looked for than are told: a body may hold a hundred thousand
    if problems := list(itertools.islice(found, MOST_TOLD + 1)):
        raise _refused(problems, _code(problems, prompts, context))
    model = asked.get("model") or spec.model.name
    if model not in spec.model.served_names:
        told = f"The model {model!r} does not exist here. Use {', '.join(spec.model.served_names)}."
        raise Refused(404, "model_not_found", told, param="model")
    tokens = prompts.tokens + _answers(asked, prompts, path, context)
    return Asked(model, prompts.tokens, tokens)


def _model(name: Any, spec: AppSpec) -> Iterator[Problem]:
    if name is None or name in spec.model.served_names:
        return
    if not isinstance(name, str):
        yield Problem("model", "is not a text.")
    elif not _NAME.fullmatch(name) or ".." in name:
        told = f"{name[:96]!r} is not a name."
        yield Problem("model", told, "It has letters, digits, '.', '_' and '-', and no path.")


def _numbers(asked: Mapping[str, Any], most_n: int, context: int) -> Iterator[Problem]:
    yield from _whole("n", asked.get("n"), 1, most_n)
    for name in _LENGTHS:
        yield from _whole(name, asked.get(name), 1, context)
    yield from _whole("min_tokens", asked.get("min_tokens"), 0, context)
    # A lower number comes first: nobody may pass those who wait
    yield from _whole("priority", asked.get("priority"), 0, 2**31)
    for name in ("stream", "echo", "use_beam_search"):
        if not isinstance(asked.get(name), bool | None):
            yield Problem(name, f"{asked[name]!r:.40} is neither true nor false.")


def _whole(name: str, value: Any, least: int, most: int) -> Iterator[Problem]:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        yield Problem(name, f"{value!r:.40} is not a whole number.")
    elif not least <= value <= most:
        yield Problem(name, f"{value!r:.40} is not between {least} and {most:,}.")


def _fit(prompts: Prompts, asked: Mapping[str, Any], context: int) -> Iterator[Problem]:
    n = asked.get("n")
    total = prompts.num * (n if isinstance(n, int) and n > 0 else 1)
    if total > MOST_SEQUENCES:
        told = f"asks for {total:,} answers at once, over {MOST_SEQUENCES:,}."
        yield Problem(prompts.field, told, "Send several requests.")
    if prompts.too_long(context, LONGEST_TOKEN) and asked.get("truncate_prompt_tokens") is None:
        told = f"is longer than the model's context of {context:,} tokens."
        yield Problem(prompts.field, told, "Shorten it.")


def _closed(asked: Mapping[str, Any]) -> Iterator[Problem]:
    for name, why in _CLOSED.items():
        if asked.get(name) is not None:
            yield Problem(name, f"is not open to clients: it {why}.", "Leave it out.")


def _answers(asked: Mapping[str, Any], prompts: Prompts, path: str, context: int) -> int:
    """Tokens that all answers together may take."""
    if path.endswith("embeddings"):
        return 0
    length = next((asked[name] for name in _LENGTHS if asked.get(name)), EXPECTED_TOKENS)
    return min(length, context) * (asked.get("n") or 1) * prompts.num


def _code(problems: list[Problem], prompts: Prompts, context: int) -> str:
    only = len(problems) == 1 and problems[0].path == prompts.field
    if only and prompts.too_long(context, LONGEST_TOKEN):
        return "context_length_exceeded"
    return "invalid_value"


def _refused(problems: list[Problem], code: str) -> Refused:
    told = [str(problem) for problem in problems[:MOST_TOLD]]
    if len(problems) > MOST_TOLD:
        told.append("There are more.")
    return Refused(400, code, " ".join(told), param=problems[0].path)
