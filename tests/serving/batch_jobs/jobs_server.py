"""The API and a worker in one process, as in a replica, with an engine that repeats the prompt."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from eksml.serving.batch_jobs import Reply, Worker, jobs_app
from eksml.serving.step_times import Leeway
from eksml.storage import URI

MODEL = "echo"
LINE_BYTES = 100_000
FILE_BYTES = 20 * 2**20


class EchoEngine:
    """Answers with the last message; told by the prompt, it is slow or fails."""

    def __init__(self, slots: int = 16, pause_s: float = 0.0) -> None:
        self.slots = slots
        self.pause_s = pause_s
        self.bodies: list[dict[str, Any]] = []
        self.now = 0
        self.most = 0
        self.cancelled = 0

    def idle_slots(self) -> int:
        return self.slots

    def leeway(self) -> Leeway:
        return Leeway(self.slots, 0.0)

    async def submit(self, endpoint: str, body: dict[str, Any]) -> Reply:
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._reply(body["messages"][-1]["content"])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1

    async def _reply(self, text: str) -> Reply:
        await asyncio.sleep(3600 if text == "hang" else self.pause_s)
        if text == "bad":
            return Reply(400, {"error": {"message": "bad prompt", "code": "invalid"}})
        if text == "raise":
            raise RuntimeError("the engine tripped")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        return Reply(200, {"object": "chat.completion", "choices": [choice], "usage": usage})


@contextlib.contextmanager
def api_server(root: URI, engine: EchoEngine | None) -> Iterator[str]:
    """The API's URL; with an engine, a worker runs too. The key that is sent is the tenant."""
    import uvicorn

    app = jobs_app(
        root,
        [MODEL],
        most_line_bytes=LINE_BYTES,
        tenant_of=lambda request: request.headers["authorization"].removeprefix("Bearer "),
        most_file_bytes=FILE_BYTES,
    )
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))

    async def run() -> None:
        work = None
        if engine is not None:
            worker = Worker(root, engine, [MODEL], most_line_bytes=LINE_BYTES)
            work = asyncio.create_task(worker.run())
        await server.serve([door])
        if work is not None:
            work.cancel()
            await asyncio.wait([work])

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}/v1"
    finally:
        server.should_exit = True
        thread.join(20)
        door.close()
        assert not thread.is_alive()
