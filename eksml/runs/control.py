"""``control.json``: the wish that a run stop at its next checkpoint, from any machine."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import AlreadyExists, Damaged, NotFound
from eksml.storage import URI

CONTROL = "control.json"
Reason = Literal["cancel", "deadline", "budget"]


class Stop(BaseModel):
    """Why and when a run was asked to stop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop: Reason
    at_s: float


def request_stop(run: URI, reason: Reason) -> Stop:
    """Ask the run to stop; the first wish stands. Workers poll :func:`read_stop`."""
    try:
        stop = Stop(stop=reason, at_s=time.time())
        (run / CONTROL).write_json(stop.model_dump(), if_absent=True)
    except AlreadyExists:
        return read_stop(run) or stop
    return stop


def read_stop(run: URI) -> Stop | None:
    """The wish to stop, if there is one.

    Raises:
        Damaged: ``control.json`` is something else.
    """
    uri = run / CONTROL
    try:
        return Stop.model_validate(uri.read_json())
    except NotFound:
        return None
    except ValidationError as error:
        raise Damaged(f"{uri} is not a wish to stop: {error.errors()[0]['msg']}.") from error


def clear_stop(run: URI) -> None:
    """Forget the wish, when an ended run is started again."""
    (run / CONTROL).delete()
