"""What tests say to the API, by the official client of OpenAI."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
from jobs_server import MODEL


def request(custom_id: str, text: str, **changes: Any) -> dict[str, Any]:
    """One line of an input."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
    line = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return {**line, **changes}


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def submit(client: openai.OpenAI, data: bytes, window: str = "24h") -> Any:
    """Upload an input and make a batch of it."""
    file = client.files.create(file=("in.jsonl", data), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window=window,  # type: ignore[arg-type]
    )


def ended(client: openai.OpenAI, batch: Any, within_s: float = 60.0) -> Any:
    """The batch once it has ended."""
    deadline = time.monotonic() + within_s
    while batch.status in ("validating", "in_progress", "finalizing", "cancelling"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def lines(client: openai.OpenAI, file_id: str | None) -> list[Any]:
    """What stands in a result file."""
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
