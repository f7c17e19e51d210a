"""A stand-in for SQS, and for S3 with its notifications, in a process of its own."""

from __future__ import annotations

import json
import sys
from typing import Any

from eksml.testing.process import OwnServer


class SqsServer(OwnServer):
    """moto's server on a free port: queues, buckets, and notifications from these to those.

    It takes any credentials, and forgets everything at its end.
    """

    name = "sqs"

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]

    @property
    def endpoint(self) -> str:
        """``http://host:port``."""
        return f"http://127.0.0.1:{self._port}"

    def env(self) -> dict[str, str]:
        """The AWS variables of a user."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "EKSMLTEST",
            "AWS_SECRET_ACCESS_KEY": "anything",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_queue(self, name: str) -> str:
        """Make a queue; returns its URL."""
        return str(self.client("sqs").create_queue(QueueName=name)["QueueUrl"])

    def send(self, queue: str, *events: Any) -> None:
        """Put JSON messages into a queue, by its URL."""
        client = self.client("sqs")
        for event in events:
            client.send_message(QueueUrl=queue, MessageBody=json.dumps(event))

    def make_bucket(self, name: str, notify: str | None = None) -> str:
        """Make a bucket that tells a queue, by its name, of new objects; returns ``s3://name``."""
        client = self.client("s3")
        client.create_bucket(Bucket=name)
        if notify is not None:
            arn = f"arn:aws:sqs:us-east-1:123456789012:{notify}"
            wanted = [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
            client.put_bucket_notification_configuration(
                Bucket=name, NotificationConfiguration={"QueueConfigurations": wanted}
            )
        return f"s3://{name}"

    def client(self, service: str) -> Any:
        """boto3's client for a service of this server."""
        import boto3

        session = boto3.Session(
            aws_access_key_id="EKSMLTEST",
            aws_secret_access_key="anything",
            region_name="us-east-1",
        )
        return session.client(service, endpoint_url=self.endpoint)  # type: ignore[call-overload]
