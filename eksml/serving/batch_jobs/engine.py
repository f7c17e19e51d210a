"""What a worker needs of a model: this is the whole surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from eksml.serving.step_times import Leeway


@dataclass(frozen=True)
class Reply:
    """An answer of the OpenAI API."""

    status: int
    """Of HTTP; 200 is an answer, everything else an error in OpenAI's shape."""
    body: dict[str, Any]
    request_id: str = ""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later: the fault is the engine's, not the row's."""
        return self.status in (408, 409, 429) or self.status >= 500


class Engine(Protocol):
    """A model that answers in this process. Called from one event loop."""

    async def submit(self, endpoint: str, body: dict[str, Any]) -> Reply:
        """Answer one request of the offline class.

        Cancelled, it must free what the engine holds for it. An engine that fails answers with a
        status, or raises; either way the row is tried again.
        """

    def idle_slots(self) -> int:
        """Sequences that the engine could compute beside its online requests right now:
        ``max_num_seqs`` less the online ones, waiting ones included; 0 while it cannot answer.
        Rows of ``submit`` do not count. Asked often: answer from memory.
        """

    def leeway(self) -> Leeway:
        """What may be computed beside the online requests of right now without slowing them down.
        Asked as often.
        """
