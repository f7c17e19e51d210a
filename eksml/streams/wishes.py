"""``stream.json``: what somebody wants of a running stream, from any machine."""

from __future__ import annotations

import secrets
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from eksml.errors import Damaged, InvalidSpec, NotFound, Problem, RunError
from eksml.runs import Run
from eksml.runs.record import ENDED
from eksml.storage import URI
from eksml.streams import checkpoints
from eksml.streams.keys import NUM_GROUPS

FILE, ANSWER = "stream.json", "stream-answer.json"
Verb = Literal["drain", "pause", "resume", "savepoint", "rescale"]
_POLL_S = 0.1


class Wish(BaseModel):
    """One wish; a later one replaces it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: Verb
    token: str
    """Tells it from every other."""
    parallelism: int | None = None


def read(uri: URI) -> Wish | None:
    """The wish, or the one that was answered last.

    Raises:
        Damaged: It is something else.
    """
    try:
        return Wish.model_validate(uri.read_json())
    except NotFound:
        return None
    except ValidationError as error:
        raise Damaged(f"{uri} is no wish: {error.errors()[0]['msg']}.") from error


def answer(run: URI, wish: Wish) -> None:
    """Say that the wish has come true."""
    (run / ANSWER).write_json(wish.model_dump())


def drain(run: Run, timeout_s: float = 600.0) -> Run:
    """End the stream: read no more, let every window end, make a last checkpoint; it succeeds.

    Raises:
        RunError: It is not running, or has not drained in time.
    """
    _ask(run, "drain", timeout_s)
    return run.wait(timeout_s, progress=False)


def pause(run: Run, timeout_s: float = 600.0) -> None:
    """Make a checkpoint, then read no more until :func:`resume`; tasks and state stay."""
    _ask(run, "pause", timeout_s)


def resume(run: Run, timeout_s: float = 600.0) -> None:
    """Go on after :func:`pause`."""
    _ask(run, "resume", timeout_s)


def rescale(run: Run, parallelism: int, timeout_s: float = 600.0) -> None:
    """Go on from a checkpoint with another number of workers; keys move with their state.

    Raises:
        InvalidSpec: There cannot be so many.
        RunError: It is not running, or has not done it in time.
    """
    if isinstance(parallelism, bool) or parallelism not in range(1, NUM_GROUPS + 1):
        message = f"{parallelism!r} workers cannot share {NUM_GROUPS} key groups."
        raise InvalidSpec([Problem("parallelism", message)], "eksml.streams.rescale")
    _ask(run, "rescale", timeout_s, parallelism)


def savepoint(run: Run, timeout_s: float = 600.0) -> URI:
    """Make a checkpoint that stays until it is deleted; another graph may begin from it."""
    wish = _ask(run, "savepoint", timeout_s)
    epochs = [int(folder.name) for folder in (run.uri / checkpoints.SAVEPOINTS).folders()]
    if not epochs:
        raise RunError(f"{run.name} answered {wish.verb} and left no savepoint.")
    return checkpoints.folder_of(run.uri, max(epochs), checkpoints.SAVEPOINTS)


def _ask(run: Run, verb: Verb, timeout_s: float, parallelism: int | None = None) -> Wish:
    """Wish it, and wait until it has come true."""
    wish = Wish(verb=verb, token=secrets.token_hex(8), parallelism=parallelism)
    (run.uri / FILE).write_json(wish.model_dump())
    limit = time.monotonic() + timeout_s
    while (answered := read(run.uri / ANSWER)) is None or answered.token != wish.token:
        if run.state in ENDED:
            raise RunError(f"{run.name} is {run.state}; only a running stream can {verb}.")
        if time.monotonic() > limit:
            raise RunError(f"{run.name} has not answered «{verb}» in {timeout_s} s. {run.why()}")
        time.sleep(_POLL_S)
    return wish
