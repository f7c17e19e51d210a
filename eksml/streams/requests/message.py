"""A message, whoever brings it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """What was received."""

    id: str
    """The same whenever it comes; good as the name of a file."""
    body: str | bytes
    receives: int
    """How often it has been received, this time included."""
    receipt: str = ""
    """SQS's word for this receive of it, by which it is extended and deleted."""
