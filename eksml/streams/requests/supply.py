"""Where a service's messages come from, and what happens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from eksml.errors import StorageError, WorkerDied
from eksml.runs.record import ErrorRecord
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.endpoints.sqs import Sqs
from eksml.streams.requests.letters import bury
from eksml.streams.requests.message import Message
from eksml.streams.requests.worker import Outcome, Post

if TYPE_CHECKING:
    from ray.actor import ActorHandle

_WAIT_S = 1.0
"""How long a worker waits for a message of a queue at a time."""


class Supply(Protocol):
    """Used by the driver's one thread.

    Raises, in every method:
        StorageUnavailable: It cannot be reached at present.
    """

    is_sure: ClassVar[bool]
    """What a worker is given is a message, and not leave to look for one."""

    def waiting(self) -> int:
        """Messages that nobody has, about."""

    def give(self, worker: ActorHandle) -> Any:
        """Have a worker handle a message; Ray's reference to the outcome, None if there is none."""

    def ended(self, answer: Any, outcome: Outcome | None) -> Outcome:
        """An outcome has come; None: the worker died. What it comes to for the message."""

    def close(self) -> None:
        """Give up what is open."""


def supply_of(post: Post, most: int) -> Supply:
    """The supply that a post names, for up to ``most`` workers."""
    source = post.source
    return QueueSupply(source) if isinstance(source, Sqs) else TopicSupply(source, post, most)


class QueueSupply:
    """A queue of SQS, which workers ask by themselves."""

    is_sure: ClassVar[bool] = False

    def __init__(self, source: Sqs) -> None:
        self._queue = source.queue()

    def waiting(self) -> int:
        return self._queue.waiting()

    def give(self, worker: ActorHandle) -> Any:
        return worker.work.remote(_WAIT_S)

    def ended(self, answer: Any, outcome: Outcome | None) -> Outcome:
        """SQS knows what was deleted, and gives the rest to somebody else."""
        return outcome or "nothing"

    def close(self) -> None:
        """Nothing is open."""


class TopicSupply:
    """A topic of Kafka. The driver reads it and gives messages out one by one, whatever partition
    they are of, so that there may be more workers than partitions and a slow message holds up none
    of the others."""

    is_sure: ClassVar[bool] = True

    def __init__(self, source: Kafka, post: Post, most: int) -> None:
        from eksml.streams.requests.topic import Topic

        self._post = post
        group = source.group or f"eksml-{post.run.name}"
        self._topic = Topic(source, group, 2 * most)
        self._given: dict[Any, tuple[tuple[int, int], Message]] = {}

    def waiting(self) -> int:
        self._topic.tend()
        return self._topic.waiting()

    def give(self, worker: ActorHandle) -> Any:
        found = self._topic.next()
        if found is None:
            return None
        answer = worker.handle.remote(found[1])
        self._given[answer] = found
        return answer

    def ended(self, answer: Any, outcome: Outcome | None) -> Outcome:
        place, message = self._given.pop(answer)
        if outcome is None:
            last = message.receives >= self._post.receives
            outcome = self._bury(message) if last else "failed"
        if outcome in ("done", "dead"):
            self._topic.done(place)
        else:
            self._topic.again(place, message, counts=outcome == "failed")
        return outcome

    def _bury(self, message: Message) -> Outcome:
        why = f"the worker that had it died, and it was received {message.receives} times."
        died = WorkerDied(why)
        try:
            bury(self._post.run, self._post.dead_letters, message, ErrorRecord.of(died))
        except StorageError:
            return "again"
        return "dead"

    def close(self) -> None:
        self._topic.close()
