"""The actor that handles requests, one at a time."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from eksml.errors import AlreadyExists, Fenced, StorageError, StorageUnavailable, WorkerDied
from eksml.runs.record import ErrorRecord
from eksml.storage import URI
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.endpoints.sqs import Sqs
from eksml.streams.parcel import Parcel
from eksml.streams.requests.events import Request, requests_of
from eksml.streams.requests.ledger import REQUESTS, Job
from eksml.streams.requests.letters import bury
from eksml.streams.requests.message import Message
from eksml.streams.requests.queue import Queue

Outcome = Literal["nothing", "done", "failed", "again", "dead"]
"""``failed``: it may be tried again, and counts as a receive; ``again``: nobody is to blame."""


@dataclass(frozen=True)
class Post:
    """What a worker needs to know."""

    source: Sqs | Kafka
    run: URI
    handler: Callable[..., Any] | type
    receives: int
    """After how many receives a message that cannot be handled is dead."""
    dead_letters: Sqs | Kafka | None
    """Where to send them."""


class Worker:
    """Handles a message, and writes its result once. Killed anywhere, the message comes again, and
    what has its result is not handled again."""

    def __init__(self, parcel: Parcel) -> None:
        self._post: Post = parcel.open()
        handler = self._post.handler
        self._handler = handler() if isinstance(handler, type) else handler
        self._takes_job = len(inspect.signature(self._handler).parameters) > 1
        source = self._post.source
        self._queue = source.queue() if isinstance(source, Sqs) else None

    def ready(self) -> Outcome:
        """Answers once the actor lives and its model is loaded."""
        return "nothing"

    def work(self, wait_s: float) -> Outcome:
        """Handle one message of the queue, if one comes within ``wait_s``, about."""
        assert self._queue is not None
        try:
            for message in self._queue.receive(1, wait_s):
                with self._kept(self._queue, message):
                    outcome = self.handle(message)
                    self._answer(self._queue, message, outcome)
                    return outcome
        except StorageUnavailable:
            return "again"
        return "nothing"

    @contextlib.contextmanager
    def _kept(self, queue: Queue, message: Message) -> Iterator[None]:
        """Keep the message from others for as long as it takes."""
        done = threading.Event()

        def extend() -> None:
            while not done.wait(queue.visibility_s / 3):
                with contextlib.suppress(StorageError):  # the next beat tries again
                    queue.extend(message.receipt)

        beat = threading.Thread(target=extend, name="eksml-visibility", daemon=True)
        beat.start()
        try:
            yield
        finally:
            done.set()
            beat.join()

    def _answer(self, queue: Queue, message: Message, outcome: Outcome) -> None:
        """What is ``again`` comes again when it is not hidden any more."""
        if outcome in ("done", "dead"):
            queue.delete(message.receipt)
        elif outcome == "failed":
            queue.give_back(message.receipt)

    def handle(self, message: Message) -> Outcome:
        """Do what a message asks for."""
        try:
            for request in requests_of(message.body, message.id):
                self._do(request)
        except (Fenced, StorageError):
            return "again"  # somebody else has it, or what it needs is away
        except Exception as error:
            return self._failed(message, error)
        return "done"

    def _do(self, request: Request) -> None:
        try:
            job = Job(self._post.run / REQUESTS, request.id).begin()
        except AlreadyExists:
            return
        try:
            if job.vanished >= self._post.receives:
                raise WorkerDied(f"the worker that had it died, {job.vanished} times.")
            arguments = (request.event, job) if self._takes_job else (request.event,)
            result = self._handler(*arguments)
            job.check_fenced()
            job.finish({"event": request.event, "result": result})
        except Exception:
            job.end()
            raise

    def _failed(self, message: Message, error: Exception) -> Outcome:
        """Let it come again, or call it dead."""
        if message.receives < self._post.receives and not isinstance(error, WorkerDied):
            return "failed"
        try:
            bury(self._post.run, self._post.dead_letters, message, ErrorRecord.of(error))
        except StorageError:
            return "again"
        return "dead"
