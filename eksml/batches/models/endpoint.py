"""A running server that speaks OpenAI's HTTP protocol, as a model: one request a row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr

from eksml.batches.models.base import Sizing
from eksml.batches.models.columns import missing
from eksml.batches.models.endpoint_client import LoadedEndpoint
from eksml.batches.models.fingerprint import fingerprint
from eksml.batches.models.prompts import FromFunction, FromMessages, Prompts, Template
from eksml.cluster.problems import Spec
from eksml.errors import CallError, Problem
from eksml.runs.call import entry_name
from eksml.runs.credentials import check_config
from eksml.runs.pickling import check_picklable

if TYPE_CHECKING:
    import pyarrow as pa

MIN_ROWS_PER_BLOCK = 64
OUTPUTS = {"chat": "generated_text", "completions": "generated_text", "embeddings": "embedding"}
RESERVED = ("model", "messages", "prompt", "input", "stream", "n", "best_of", "encoding_format")
_FIELDS = ("max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "seed", "stop")


class Endpoint(Spec):
    """Where the server is and what it is asked. Made by :func:`endpoint`."""

    url: str
    """With the version: ``https://api.openai.com/v1``."""
    model: str = Field(min_length=1)
    """As the server calls it."""
    prompt: Any = None
    """A template or a function of the row; see :func:`endpoint`."""
    messages: str | None = None
    """A column of conversations, instead of ``prompt``."""
    system: str | None = None
    """First message of every conversation."""
    api: Literal["chat", "completions", "embeddings"] = "chat"
    """Which of the server's routes is asked."""
    sampling: dict[str, Any] = Field(default_factory=dict)
    """More fields of the request's body."""
    output: str | None = Field(default=None, min_length=1)
    """Name of the new column."""
    api_key_env: str = Field(default="OPENAI_API_KEY", pattern="^[A-Za-z_][A-Za-z0-9_]*$")
    """Environment variable of the workers that holds the key."""
    max_in_flight: int = Field(default=32, ge=1, le=10_000)
    """Requests that one worker has under way."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """Of all workers together."""
    tokens_per_minute: float | None = Field(default=None, gt=0)
    """Of all workers together, prompts and answers."""
    retries: int = Field(default=5, ge=0, le=100)
    """Times that one row is asked for again."""
    timeout_s: float = Field(default=120.0, gt=0)
    """For one request, from its first byte to the answer's last."""

    _code: str | None = PrivateAttr(None)

    def describe(self) -> dict[str, Any]:
        """What decides on the output. Never the key."""
        if self._code is None:
            self._code = fingerprint(self.prompt)
        said = self.prompt if isinstance(self.prompt, str | None) else entry_name(self.prompt)
        fields = {"url", "model", "messages", "system", "api", "sampling"}
        return {
            "kind": "endpoint",
            "name": self.model,
            "prompt": said,
            "output": self.column,
            "fingerprint": self._code,
            **self.model_dump(include=fields),
        }

    @property
    def column(self) -> str:
        """Name of the new column."""
        return self.output or OUTPUTS[self.api]

    @property
    def prompts(self) -> Prompts:
        """What each row asks."""
        if self.messages is not None:
            return FromMessages(self.messages)
        return Template(self.prompt) if isinstance(self.prompt, str) else FromFunction(self.prompt)

    def check(self, schema: pa.Schema) -> list[Problem]:
        """Columns that are missing, an address or a template that is none. Asks no server."""
        problems = [*_url_problems(self.url), *_sampling_problems(self.sampling)]
        problems += _prompt_problems(self)
        if not problems:
            path = "prompt" if self.messages is None else "messages"
            problems += missing(self.prompts.columns(), schema, path)
        try:
            check_config(self.sampling, "sampling")
            check_picklable(self.prompt, "prompt")
        except CallError as error:
            problems.append(Problem("model", str(error)))
        return problems

    def sizing(self) -> Sizing:
        """A worker waits most of its time."""
        return Sizing({"CPU": 0.5}, 2 * self.max_in_flight, MIN_ROWS_PER_BLOCK, max_workers=1)

    def load(self, workers: int = 1) -> LoadedEndpoint:
        """Find out whether the server is there and lets us in.

        Args:
            workers: How many share the limits a minute.

        Raises:
            MissingExtra: The package ``openai`` is not installed.
            InvalidSpec: It cannot be reached, or refuses the key; says which.
        """
        return LoadedEndpoint(self, workers)


def endpoint(
    url: str,
    *,
    model: str,
    prompt: str | Callable[[dict[str, Any]], Any] | None = None,
    messages: str | None = None,
    system: str | None = None,
    api: Literal["chat", "completions", "embeddings"] = "chat",
    sampling: Mapping[str, Any] | None = None,
    output: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    max_in_flight: int = 32,
    requests_per_minute: float | None = None,
    tokens_per_minute: float | None = None,
    retries: int = 5,
    timeout_s: float = 120.0,
) -> Endpoint:
    """A server with OpenAI's protocol (vLLM, Ray Serve, a provider) as a model: a request a row.

    >>> endpoint("http://llm:8000/v1", model="smollm2", prompt="Summarise: {text}",
    ...          sampling={"temperature": 0, "max_tokens": 64})             # doctest: +SKIP

    New columns: the answer; for the report, tokens in and out. A row is asked for again after 408,
    409, 429 and 5xx, after a timeout and a broken connection: after what ``Retry-After`` asks, else
    after 0.5 s, 1 s, 2 s … up to a minute, each shortened at random by up to a half. What is
    refused otherwise (4xx), or has failed ``retries`` + 1 times, is a row with an error. A key or a
    model that the server does not know (401, 404) ends the run; a server that is gone ends the
    worker.

    Args:
        url: With the version, ``…/v1``.
        model: As the server calls it.
        prompt: A template with columns in braces; or a function of the row, a dictionary, that
            returns text or a list of messages.
        messages: Instead of ``prompt``: a column of lists of ``{"role": …, "content": …}``.
        system: First message of every conversation (chat only).
        api: The route: ``chat/completions``, ``completions`` or ``embeddings``.
        sampling: More fields of the request, as the server has them: ``temperature``,
            ``max_tokens``, ``response_format``, …
        output: Name of the new column; «generated_text» or «embedding» unless given.
        api_key_env: The environment variable that holds the key, in the workers. It is read there,
            and neither pickled nor recorded.
        max_in_flight: Requests that each worker has under way.
        requests_per_minute: No more than this, with a burst of a second's worth.
        tokens_per_minute: Likewise. A request counts for a quarter of its characters and for
            ``max_tokens`` when it is sent, and for what the server says when it has answered.
        retries: Times that one row is asked for again.
        timeout_s: For one request.

    Raises:
        InvalidSpec: With everything that is wrong.
    """
    return Endpoint(
        url=url,
        model=model,
        prompt=prompt,
        messages=messages,
        system=system,
        api=api,
        sampling=dict(sampling or {}),
        output=output,
        api_key_env=api_key_env,
        max_in_flight=max_in_flight,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        retries=retries,
        timeout_s=timeout_s,
    )


def _url_problems(url: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(url)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named or parts.scheme not in ("http", "https"):
        yield Problem("url", f"{url!r:.200} is no address.", "Write http://host:8000/v1.")
    elif parts.username or parts.password or parts.query:
        # Not shown: it may hold a key
        told = "holds a user, a password or a query, which would be recorded with the run."
        yield Problem("url", told, "Name the variable that holds the key: api_key_env=…")


def _sampling_problems(sampling: Mapping[str, Any]) -> Iterator[Problem]:
    for name in sampling:
        near = difflib.get_close_matches(name, _FIELDS, n=1, cutoff=0.8)
        if name in RESERVED:
            yield Problem("sampling", f"{name!r} is set by eksml.", "Leave it out.")
        elif near and name not in _FIELDS:
            yield Problem("sampling", f"{name!r} is unknown.", f"Did you mean {near[0]!r}?")


def _prompt_problems(model: Endpoint) -> Iterator[Problem]:
    if (model.prompt is None) == (model.messages is None):
        remedy = "Give one: a template such as 'Summarise: {text}', or a column of messages."
        yield Problem("prompt", "Either prompt or messages says what is asked.", remedy)
    elif isinstance(model.prompt, str):
        yield from Template(model.prompt).problems("prompt")
    elif model.prompt is not None and not callable(model.prompt):
        yield Problem("prompt", f"{model.prompt!r:.80} is neither a template nor a function.")
    if model.api != "chat":
        for field in ("messages", "system"):
            if getattr(model, field) is not None:
                yield Problem(field, f"has no effect with api={model.api!r}.", "Use api='chat'.")
