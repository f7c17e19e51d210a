"""A conversation with a model on any server that speaks OpenAI's protocol."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from eksml.errors import EksmlError, InvalidSpec, MissingExtra, Problem

if TYPE_CHECKING:
    import openai

_NO_KEY = "none"
"""The client wants a key; a server without tenants looks at none."""


class Conversation:
    """Questions and answers, each answer given piece by piece as it is written.

    Args:
        url: The server: ``http://host:8000``, with or without ``/v1``.
        model: Which model; the first that the server lists unless given.
        key: The API key, if the server wants one.

    Raises:
        InvalidSpec: The URL is none, the key is wrong, or there is no such model.
        EksmlError: The server does not answer.
        MissingExtra: The package ``openai`` is not installed.
    """

    def __init__(self, url: str, *, model: str | None = None, key: str | None = None) -> None:
        self.url = base_url(url)
        self._client = _client(self.url, key)
        self.model = self._choose(model)
        self.system = ""
        """What the model is told before everything else."""
        self._messages: list[dict[str, str]] = []
        self.figures = ""
        """How fast the last answer came, in a few words."""

    def _choose(self, wanted: str | None) -> str:
        import openai

        try:
            names = [model.id for model in self._client.models.list()]
        except openai.OpenAIError as error:
            raise self._translated(error) from error
        if wanted is None and names:
            return names[0]
        if wanted not in names or wanted is None:
            told = f"{wanted!r} is not served at {self.url}." if wanted else "It serves no model."
            raise InvalidSpec([Problem("model", told, f"There are: {', '.join(names)}.")], "chat")
        return wanted

    def reset(self) -> None:
        """Forget what was said, but for the system prompt."""
        self._messages = []

    def ask(self, question: str) -> Generator[str]:
        """The answer, in pieces.

        Whoever stops iterating stops the server, and what was written by then counts as said. After
        an error the question counts as not asked.

        Raises:
            InvalidSpec: The server refuses the request.
            EksmlError: It does not answer, or breaks off.
        """
        import httpx
        import openai

        asked = {"role": "user", "content": question}
        said = ""
        began_s = time.monotonic()
        first_s: float | None = None
        usage = finished = None
        try:
            with self._client.chat.completions.create(
                model=self.model,
                messages=self._told(asked),
                stream=True,
                stream_options={"include_usage": True},
            ) as stream:
                for event in stream:
                    usage = event.usage or usage
                    if not event.choices:
                        continue
                    finished = event.choices[0].finish_reason or finished
                    if piece := event.choices[0].delta.content or "":
                        first_s = first_s or time.monotonic()
                        said += piece
                        yield piece
            if finished is None:
                said = ""
                raise EksmlError(f"The answer of {self.url} broke off. Ask again.")
        except (openai.OpenAIError, httpx.HTTPError) as error:
            said = ""
            raise self._translated(error) from error
        finally:
            if said:
                self._messages += [asked, {"role": "assistant", "content": said}]
        self.figures = _figures(began_s, first_s, usage)

    def _told(self, asked: dict[str, str]) -> Any:
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *self._messages, asked]

    def _translated(self, error: Exception) -> EksmlError:
        import openai

        if isinstance(error, openai.APIConnectionError):
            return EksmlError(
                f"{self.url} does not answer: {error.__cause__ or error}. See that it is up, and "
                "that this machine reaches it."
            )
        if not isinstance(error, openai.APIStatusError):
            told = str(error) or type(error).__name__
            return EksmlError(f"The answer of {self.url} broke off: {told}")
        told = _message(error)
        if error.status_code == 401:
            remedy = "Give the right one with --key or EKSML_API_KEY."
            return InvalidSpec([Problem("key", told, remedy)], "chat")
        if error.status_code < 500 and error.status_code != 429:
            return InvalidSpec([Problem("request", f"{error.status_code}: {told}")], "chat")
        return EksmlError(f"{self.url} answered {error.status_code}: {told}")


def base_url(text: str) -> str:
    """Where the API is, with its version: ``http://host:8000/v1``.

    Raises:
        InvalidSpec: It is no URL of HTTP.
    """
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        told = f"{text!r} is not a URL."
        remedy = "Write one as http://127.0.0.1:8000."
        raise InvalidSpec([Problem("url", told, remedy)], "chat")
    trimmed = text.rstrip("/")
    return trimmed if trimmed.endswith("/v1") else f"{trimmed}/v1"


def _client(url: str, key: str | None) -> openai.OpenAI:
    try:
        import openai
    except ImportError as error:
        raise MissingExtra(
            "Chat speaks through the package openai, which is not installed: "
            "pip install 'eksml[endpoint]'."
        ) from error
    return openai.OpenAI(base_url=url, api_key=key or _NO_KEY, max_retries=1)


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(error)


def _figures(began_s: float, first_s: float | None, usage: Any) -> str:
    if first_s is None:
        return "no text"
    figures = [f"first token {(first_s - began_s) * 1000:.0f} ms"]
    if usage is not None:
        figures.append(f"{usage.completion_tokens} tokens")
        took_s = time.monotonic() - first_s
        if usage.completion_tokens > 1 and took_s > 0:
            figures.append(f"{(usage.completion_tokens - 1) / took_s:.1f} tokens/s")
    return " · ".join(figures)
