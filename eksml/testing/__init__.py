"""Real servers for your own tests, and a proxy that makes them misbehave.

::

    with S3Server() as s3, FaultProxy(s3.endpoint, fail_503=0.2, reset=0.1) as proxy:
        storage = s3.make_bucket("models")
        os.environ |= s3.env(proxy.endpoint)
        ...                                   # everything must still succeed
        print(proxy.num_requests, proxy.faults)

Load for servers that speak OpenAI's protocol is in ``eksml.testing.load``.

Needs the extra ``eksml[dev]``.
"""

from eksml.testing.fault_proxy import Fault, FaultProxy, Seen
from eksml.testing.kafka_broker import KafkaBroker
from eksml.testing.kinesis_server import KinesisServer
from eksml.testing.nats_server import NatsServer
from eksml.testing.postgres_server import PostgresServer
from eksml.testing.s3_server import S3Server
from eksml.testing.sqs_server import SqsServer

__all__ = [
    "Fault",
    "FaultProxy",
    "KafkaBroker",
    "KinesisServer",
    "NatsServer",
    "PostgresServer",
    "S3Server",
    "Seen",
    "SqsServer",
]
