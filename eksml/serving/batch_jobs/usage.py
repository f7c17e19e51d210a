"""Tokens, as the answers of the engine tell them and as a batch's view adds them up."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Usage(BaseModel):
    """Tokens of one or many answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_tokens: int = 0
    cached_tokens: int = 0
    """Of the input, those that the prefix cache held."""
    output_tokens: int = 0
    reasoning_tokens: int = 0
    """Of the output, those of the reasoning."""

    @classmethod
    def of(cls, body: Any) -> Self:
        """From an answer's ``usage``; what it does not tell counts as zero."""
        usage = _mapping(_mapping(body).get("usage"))
        return cls(
            input_tokens=_count(usage, "prompt_tokens"),
            cached_tokens=_count(_mapping(usage.get("prompt_tokens_details")), "cached_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            reasoning_tokens=_count(
                _mapping(usage.get("completion_tokens_details")), "reasoning_tokens"
            ),
        )

    def __add__(self, other: Usage) -> Usage:
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: count + theirs[name] for name, count in mine.items()})

    def view(self) -> dict[str, Any]:
        """OpenAI's ``usage`` of a batch."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.input_tokens + self.output_tokens,
        }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) else 0
