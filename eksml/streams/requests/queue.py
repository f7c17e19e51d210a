"""A queue of SQS, as much of it as is needed. Called from threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from eksml.streams.aws import told
from eksml.streams.requests.message import Message

T = TypeVar("T")


class Queue:
    """One queue, by its name or URL.

    Raises, in every method:
        NotFound: There is no such queue.
        AccessDenied: It may not be used.
        StorageUnavailable: SQS does not answer, after boto3's own tries.
    """

    def __init__(self, name: str, visibility_s: int) -> None:
        self._name = name
        self.visibility_s = visibility_s
        self._known: tuple[Any, str] | None = None

    def receive(self, count: int, wait_s: float) -> list[Message]:
        """Up to ``count`` messages, at most 10, after ``wait_s`` at the latest; nobody else gets
        them for ``visibility_s``."""

        def call(client: Any, url: str) -> list[Any]:
            answer = client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=min(10, count),
                WaitTimeSeconds=int(wait_s),
                VisibilityTimeout=self.visibility_s,
                AttributeNames=["ApproximateReceiveCount"],
            )
            return list(answer.get("Messages", []))

        return [_message(found) for found in self._do(call)]

    def extend(self, receipt: str) -> None:
        """Keep a message for another ``visibility_s``."""
        self._do(
            lambda client, url: client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=self.visibility_s
            )
        )

    def give_back(self, receipt: str) -> None:
        """Let somebody have it again at once."""
        self._do(
            lambda client, url: client.change_message_visibility(
                QueueUrl=url, ReceiptHandle=receipt, VisibilityTimeout=0
            )
        )

    def delete(self, receipt: str) -> None:
        """It is done."""
        self._do(lambda client, url: client.delete_message(QueueUrl=url, ReceiptHandle=receipt))

    def send(self, body: str) -> None:
        """Put a message in."""
        self._do(lambda client, url: client.send_message(QueueUrl=url, MessageBody=body))

    def waiting(self) -> int:
        """Messages that nobody has at present, about."""

        def call(client: Any, url: str) -> int:
            names: Any = ["ApproximateNumberOfMessages"]
            answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)
            return int(answer["Attributes"]["ApproximateNumberOfMessages"])

        return self._do(call)

    def _do(self, call: Callable[[Any, str], T]) -> T:
        with told(f"queue {self._name!r}"):
            if self._known is None:
                self._known = self._find()
            return call(*self._known)

    def _find(self) -> tuple[Any, str]:
        import boto3

        client = boto3.client("sqs")
        if self._name.startswith(("http://", "https://")):
            return client, self._name
        return client, client.get_queue_url(QueueName=self._name)["QueueUrl"]


def _message(found: Any) -> Message:
    receives = int(found.get("Attributes", {}).get("ApproximateReceiveCount", 1))
    return Message(found["MessageId"], found["Body"], receives, found["ReceiptHandle"])
