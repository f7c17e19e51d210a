"""``progress.json``: how far a run is, written about once a second by its first worker."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eksml.errors import Damaged, NotFound
from eksml.storage import URI

PROGRESS = "progress.json"


class Progress(BaseModel):
    """How far a run is. Counts are of the whole run, not of one worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int = 0
    total: int | None = None
    """Steps in all, where they are known."""
    unit: str = "step"
    """What is counted: ``step`` of training, ``row`` of a batch."""
    samples_per_s: float | None = None
    """Over the last few seconds, of all workers together."""
    seconds_left: float | None = None
    """To the last step at the present speed."""
    metrics: dict[str, Any] = {}
    """The last values that were logged."""
    committed_step: int | None = None
    """The step that a restart would go on from."""
    phase: str = "running"
    """What it does: ``starting``, ``restoring``, ``running``, ``saving``, …"""
    updated_s: float = Field(default_factory=time.time)

    @property
    def rate(self) -> str:
        """The speed for people, empty where it is unknown: ``512 samples/s``."""
        if not self.samples_per_s:
            return ""
        what = "samples" if self.unit == "step" else f"{self.unit}s"
        return f"{self.samples_per_s:,.0f} {what}/s"


def write_progress(run: URI, progress: Progress) -> None:
    """Replace the progress atomically."""
    (run / PROGRESS).write_json(progress.model_dump())


def read_progress(run: URI) -> Progress | None:
    """The last progress, None before the first.

    Raises:
        Damaged: ``progress.json`` is something else.
    """
    uri = run / PROGRESS
    try:
        return Progress.model_validate(uri.read_json())
    except NotFound:
        return None
    except ValidationError as error:
        raise Damaged(f"{uri} is not a progress: {error.errors()[0]['msg']}.") from error
