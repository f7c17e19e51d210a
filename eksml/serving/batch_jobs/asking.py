"""What a client may ask for when it makes a batch: checked, every problem at once."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from eksml.cluster.problems import Spec
from eksml.serving.batch_jobs.places import is_file_id

_WINDOW = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LONGEST_S = 30 * 86_400


def window_s(text: str) -> int:
    """Seconds of a completion window such as ``24h``.

    Raises:
        ValueError: it is none, or longer than 30 days.
    """
    match = _WINDOW.fullmatch(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError("write a completion window such as 24h or 30m, of 30 days at most")
    return seconds


def _window(text: str) -> str:
    window_s(text)
    return text


def _file_id(text: str) -> str:
    if not is_file_id(text):
        raise ValueError("not the id of a file: upload the input to /v1/files first")
    return text


def _few(texts: dict[str, str]) -> dict[str, str]:
    if len(texts) > 16:
        raise ValueError("at most 16 pairs may be given")
    return texts


class BatchRequest(Spec):
    """The body of ``POST /v1/batches``."""

    input_file_id: Annotated[str, AfterValidator(_file_id)]
    """A file that was uploaded with ``purpose=batch``."""
    endpoint: Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]
    """Where each line is sent."""
    completion_window: Annotated[str, AfterValidator(_window)]
    """After this the batch ends with what it has: ``24h``, or another number of s, m, h or d."""
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]],
            AfterValidator(_few),
        ]
        | None
    ) = None
    """Up to 16 texts that are given back with the batch."""
