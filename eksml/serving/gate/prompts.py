"""The prompts of a request, in the forms that OpenAI's API has for them: how many, how long."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from eksml.errors import Problem
from eksml.serving.gate.media import media_problems

CHARACTERS_A_TOKEN = 4
"""What a token of English text has on average; for estimates only."""
MOST_SEQUENCES = 2048
"""Prompts of one request times answers to each; also OpenAI's bound on a list of inputs."""
MOST_PARTS = 8192
"""Messages, and parts of their contents, in sum."""
MEDIA_TOKENS = 1000
"""Estimate for an image, a sound or a video."""

_TEXTS = ("text", "input_text", "output_text", "refusal", "thinking", "tool_reference")


class Prompts:
    """What a request wants answered or embedded.

    Args:
        asked: The parsed body.
        path: Which route of ``/v1`` it is sent to.
        media: Hosts from which images and the like may be fetched.
    """

    def __init__(self, asked: Mapping[str, Any], path: str, media: Collection[str]) -> None:
        self._asked = asked
        self._media = media
        self.field = _field(asked, path)
        """Where they stand."""
        self.num = 1
        self.tokens = 0
        """Estimate."""
        self._longest = 0
        self._most_ids = 0
        self._num_parts = 0

    def too_long(self, context: int, longest_token: int) -> bool:
        """Whether one certainly has more tokens than ``context``, without counting them."""
        return self._most_ids > context or self._longest > context * longest_token

    def look(self) -> Iterator[Problem]:
        """What is wrong with them. The counts are right after the last."""
        value = self._asked.get(self.field)
        if value is None or value == []:
            yield Problem(self.field, "is missing." if value is None else "is empty.")
        elif self.field == "messages" or _is_chat(value):
            yield from self._chats(value)
        elif isinstance(value, str):
            self._text(value)
        elif _are_ids(value):
            self._ids(value)
        elif isinstance(value, list) and set(map(type, value)) <= {str, list}:
            yield from self._several(value)
        else:
            told = "is neither a text, nor a list of texts or of token numbers."
            yield Problem(self.field, told)

    def _several(self, prompts: list[Any]) -> Iterator[Problem]:
        if _is_chat(prompts[0]):
            yield from self._chats(prompts)
            return
        self.num = len(prompts)
        if self.num > MOST_SEQUENCES:
            return
        for at, prompt in enumerate(prompts):
            if isinstance(prompt, str):
                self._text(prompt)
            elif prompt and _are_ids(prompt):
                self._ids(prompt)
            else:
                yield Problem(
                    f"{self.field}.{at}", "is neither a text nor a list of token numbers."
                )
                return

    def _chats(self, value: Any) -> Iterator[Problem]:
        """One conversation, or (to be embedded) a list of them."""
        if not isinstance(value, list):
            yield Problem(self.field, "is not a list of messages.")
        elif value and set(map(type, value)) == {list}:
            self.num = len(value)
            for at, chat in enumerate(value[:MOST_SEQUENCES]):
                yield from self._chat(f"{self.field}.{at}", chat)
        else:
            yield from self._chat(self.field, value)

    def _chat(self, path: str, messages: list[Any]) -> Iterator[Problem]:
        if self._too_many(messages):
            yield self._many(path)
            return
        for at, message in enumerate(messages):
            if not isinstance(message, dict):
                yield Problem(f"{path}.{at}", "is not an object.")
                return
            if not isinstance(message.get("role"), str):
                yield Problem(f"{path}.{at}.role", "is missing, or not a text.")
            yield from self._content(f"{path}.{at}.content", message.get("content"))

    def _content(self, path: str, content: Any) -> Iterator[Problem]:
        if isinstance(content, str):
            self._text(content)
        elif isinstance(content, list):
            if self._too_many(content):
                yield self._many(path)
                return
            for at, part in enumerate(content):
                yield from self._part(f"{path}.{at}", part)
        elif content is not None:
            yield Problem(path, "is neither a text nor a list of parts.")

    def _part(self, path: str, part: Any) -> Iterator[Problem]:
        if isinstance(part, str):
            self._text(part)
        elif not isinstance(part, dict):
            yield Problem(path, "is neither a text nor an object.")
        else:
            text = part.get("text")
            if isinstance(text, str):
                self._text(text)
            if part.get("type") not in _TEXTS:
                self.tokens += MEDIA_TOKENS
            yield from media_problems(path, part, self._media)

    def _too_many(self, pieces: list[Any]) -> bool:
        self._num_parts += len(pieces)
        return self._num_parts > MOST_PARTS

    def _many(self, path: str) -> Problem:
        return Problem(path, f"makes over {MOST_PARTS:,} messages and parts.", "Send fewer.")

    def _text(self, text: str) -> None:
        self._longest = max(self._longest, len(text))
        self.tokens += len(text) // CHARACTERS_A_TOKEN + 1

    def _ids(self, ids: list[int]) -> None:
        self._most_ids = max(self._most_ids, len(ids))
        self.tokens += len(ids)


def _field(asked: Mapping[str, Any], path: str) -> str:
    if path.endswith("/chat/completions"):
        return "messages"
    if path.endswith("/completions"):
        return "prompt"
    return "messages" if "messages" in asked else "input"


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) == {int} and min(value) >= 0
