"""A worker as a process of its own, to be killed: ``jobs_worker.py ROOT PAUSE_S JOURNAL``.

Each row that it begins is appended to the journal.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from typing import Any

from jobs_server import LINE_BYTES, MODEL, EchoEngine

from eksml.runs import lease
from eksml.serving.batch_jobs import Reply, Worker, worker
from eksml.storage import URI


class NotedEngine(EchoEngine):
    """Writes down what it computes, and takes its time by chance."""

    def __init__(self, slots: int, pause_s: float, journal: str) -> None:
        super().__init__(slots, pause_s)
        self._journal = open(journal, "a", buffering=1)  # noqa: SIM115 - until the end of the process

    async def submit(self, endpoint: str, body: dict[str, Any]) -> Reply:
        self._journal.write(body["messages"][-1]["content"] + "\n")
        if body["messages"][-1]["content"] == "kill":
            os._exit(1)
        await asyncio.sleep(random.random() * self.pause_s)
        return await super().submit(endpoint, body)


if __name__ == "__main__":
    root, pause_s, journal = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    worker.POLL_S = 0.05
    lease.STALE_S = float(os.environ.get("JOBS_STALE_S", lease.STALE_S))
    engine = NotedEngine(16, pause_s, journal)
    asyncio.run(Worker(URI.parse(root), engine, [MODEL], most_line_bytes=LINE_BYTES).run())
