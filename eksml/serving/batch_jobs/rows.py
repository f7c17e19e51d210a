"""One row of a batch through the engine, tried again where the fault may pass."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from eksml.serving.batch_jobs.answers import Answer
from eksml.serving.batch_jobs.engine import Engine, Reply
from eksml.serving.batch_jobs.lines import Row
from eksml.serving.batch_jobs.slots import Slot

_TRIES = 6
_FIRST_PAUSE_S = 0.5
"""Doubled each time: 15.5 s in all, in which an engine that died is seen to be dead."""

_log = logging.getLogger(__name__)


async def answer(row: Row, endpoint: str, engine: Engine, slot: Slot) -> Answer:
    """The answer to a row, computed in its slot, which is given back.

    A bad row gets an error as its answer. So does one that met a failing engine ``_TRIES`` times.
    """
    body = {**row.body, "stream": False}
    reply = await slot.run(lambda: _submit(engine, endpoint, body))
    for attempt in range(_TRIES - 1):
        if not reply.may_pass:
            break
        await asyncio.sleep(_FIRST_PAUSE_S * 2**attempt)
        reply = await slot.run(lambda: _submit(engine, endpoint, body))
    return Answer.of(row, reply)


async def _submit(engine: Engine, endpoint: str, body: dict[str, Any]) -> Reply:
    try:
        return await engine.submit(endpoint, body)
    except Exception as error:  # whatever a server's code raises is its answer 500
        _log.warning("a row of a batch failed in the engine: %r", error)
        told = {"message": str(error), "type": "server_error", "param": None, "code": None}
        return Reply(500, {"error": told})
