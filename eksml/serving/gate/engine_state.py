"""What the gate has to know of the engine behind it."""

from __future__ import annotations

from typing import Protocol


class EngineState(Protocol):
    """Asked for every request: each answer must be at hand."""

    @property
    def ready(self) -> bool:
        """Whether it generated a token of late: what comes now is worth giving to it."""

    @property
    def alive(self) -> bool:
        """Whether its processes run."""

    @property
    def context(self) -> int:
        """Most tokens of a prompt and its answer together."""

    @property
    def slots(self) -> int:
        """Requests that are computed at once, at most."""
