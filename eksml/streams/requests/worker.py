"""The actor that handles requests, one at a time."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from eksml.errors import AlreadyExists, Fenced, StorageError
from eksml.runs.record import ErrorRecord
from eksml.storage import URI
from eksml.streams.parcel import Parcel
from eksml.streams.requests.events import Request, requests_of
from eksml.streams.requests.ledger import REQUESTS, Job
from eksml.streams.requests.queue import Message, Queue

Outcome = Literal["nothing", "done", "failed", "dead"]


@dataclass(frozen=True)
class Post:
    """What a worker needs to know."""

    queue: str
    visibility_s: int
    run: URI
    handler: Callable[..., Any] | type
    receives: int
    """After how many receives a message that cannot be handled is dead."""
    dead_letters: str | None
    """Queue for them."""


class Worker:
    """Takes a message, handles it, writes its result once, deletes it. Killed anywhere, the message
    comes again after ``visibility_s``, and what has its result is not handled again."""

    def __init__(self, parcel: Parcel) -> None:
        self._post: Post = parcel.open()
        handler = self._post.handler
        self._handler = handler() if isinstance(handler, type) else handler
        self._takes_job = len(inspect.signature(self._handler).parameters) > 1
        self._queue = Queue(self._post.queue, self._post.visibility_s)

    def ready(self) -> None:
        """Answers once the actor lives and its model is loaded."""

    def work(self, wait_s: float) -> Outcome:
        """Handle one message, if one comes within ``wait_s``, about."""
        for message in self._queue.receive(1, wait_s):
            with self._kept(message):
                return self._handle(message)
        return "nothing"

    @contextlib.contextmanager
    def _kept(self, message: Message) -> Iterator[None]:
        """Keep the message from others for as long as it takes."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(self._post.visibility_s / 3):
                with contextlib.suppress(StorageError):  # the next beat tries again
                    self._queue.extend(message.receipt)

        beat = threading.Thread(target=extend, name="eksml-visibility", daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()

    def _handle(self, message: Message) -> Outcome:
        try:
            for request in requests_of(message.body, message.id):
                self._do(request)
        except (Fenced, StorageError):
            return "failed"  # somebody else has it, or it comes again
        except Exception as error:
            return self._failed(message, error)
        self._queue.delete(message.receipt)
        return "done"

    def _do(self, request: Request) -> None:
        try:
            job = Job(self._post.run / REQUESTS, request.id).begin()
        except AlreadyExists:
            return
        arguments = (request.event, job) if self._takes_job else (request.event,)
        result = self._handler(*arguments)
        job.check_fenced()
        job.finish({"event": request.event, "result": result})

    def _failed(self, message: Message, error: Exception) -> Outcome:
        """Let it come again, or call it dead."""
        if message.receives < self._post.receives:
            self._queue.give_back(message.receipt)
            return "failed"
        record = ErrorRecord.of(error)
        letter = {
            "body": message.body,
            "error": record.type,
            "message": record.message,
            "traceback": record.traceback,
            "receives": message.receives,
        }
        (self._post.run / "dead" / f"{message.id}.json").write_json(letter)
        if self._post.dead_letters is not None:
            Queue(self._post.dead_letters, self._post.visibility_s).send(message.body)
        self._queue.delete(message.receipt)
        return "dead"
