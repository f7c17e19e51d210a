"""The ends of streams, by the names that users call them by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from eksml.storage import URI
from eksml.streams.endpoints.files import Files, Format
from eksml.streams.endpoints.http import Http
from eksml.streams.endpoints.kafka import Kafka, Values
from eksml.streams.endpoints.kinesis import Kinesis, Start
from eksml.streams.endpoints.nats import Nats
from eksml.streams.endpoints.postgres import Postgres
from eksml.streams.endpoints.sqs import Sqs
from eksml.streams.graph import Stream, begin
from eksml.streams.operators.functions import Form
from eksml.streams.remote import Endpoint, Served
from eksml.streams.sinks.call import Call
from eksml.streams.sources.generator import Generator


def generator(fn: Callable[[int, int], Any], *, splits: int = 1, name: str | None = None) -> Stream:
    """A stream of what ``fn(split, start)`` yields: for tests, simulations and replays.

    Args:
        fn: Yields the events of split 0, 1, … from event number ``start`` on: the same events each
            time, in the same order. Dictionaries, lists of them, or Arrow tables; an empty list
            if there is nothing at present.
        splits: Independent parts, which tasks share.
    """
    return begin(Generator(fn, splits), name)


def items(events: Sequence[Any], *, name: str | None = None) -> Stream:
    """A stream of the events of a list, which ends with it."""

    def one_after_another(split: int, start: int) -> Any:
        return iter(events[start:])

    return begin(Generator(one_after_another), name)


def files(
    path: str | Path | URI,
    *,
    format: Format = "parquet",
    follow: bool = False,
    name: str | None = None,
) -> Stream:
    """Files of a folder or ``s3://bucket/prefix``: a stream of their rows; in ``to``, a sink.

    As a source, files are read in the order of their names, a file by one task; with ``follow``,
    files that come later are read too, and files of lines as they grow. As a sink, new files appear
    with every checkpoint, each event in exactly one of them.

    Args:
        format: ``parquet`` or ``jsonl``, one JSON object a line.
    """
    return begin(Files(path, format, follow), name)


def kafka(
    topic: str,
    servers: str,
    *,
    group: str | None = None,
    start: Literal["earliest", "latest"] = "earliest",
    values: Values = "json",
    key: str | None = None,
    bounded: bool = False,
    security: dict[str, Any] | None = None,
    name: str | None = None,
) -> Stream:
    """A Kafka topic: a stream of its records; in ``to``, a sink.

    As a source, partitions are read from positions in the checkpoints, committed records only, with
    Kafka's times. As a sink, events appear in one transaction for each checkpoint and worker.

    Args:
        servers: ``host:port``, several with commas between.
        group: Consumer group whose offsets follow the checkpoints, for tools that show lag.
        start: Where partitions begin that no checkpoint knows.
        values: ``json``: an event is the JSON object in a record; ``bytes``: it has the columns
            ``value``, ``key``, ``partition`` and ``offset``.
        key: Column whose text becomes the key of what is written.
        bounded: End at what the topic holds when the stream starts.
        security: Settings of aiokafka: ``security_protocol``, ``sasl_mechanism``, …
    """
    return begin(Kafka(topic, servers, group, start, values, key, bounded, security or {}), name)


def sqs(queue: str, *, visibility_s: int = 60, name: str | None = None) -> Stream:
    """A queue of SQS: for ``eksml.on_event``, as a stream of its messages, or, in ``to``, as a sink
    that sends each event at least once.

    A message is deleted when a checkpoint holds what it did. One whose worker sleeps longer than
    ``visibility_s`` may count twice.

    Args:
        queue: Its name or URL. Messages are JSON objects; notifications of S3 become one event for
            each object: ``bucket``, ``key``, ``size``, ``etag``, ``event``.
        visibility_s: How long a message stays hidden after its worker has died.
    """
    return begin(Sqs(queue, visibility_s), name)


def nats(subject: str, servers: str, *, name: str | None = None) -> Stream:
    """A subject of NATS JetStream: a stream of its JSON messages; in ``to``, a sink.

    As a source, one task reads it by the numbers of its messages. As a sink, JetStream drops what
    comes again within the stream's window for duplicates, two minutes unless it is set: a stream
    that is down for longer between sending and recording may double an epoch.

    Args:
        servers: ``nats://host:4222``, several with commas between.
    """
    return begin(Nats(subject, servers), name)


def http(
    port: int,
    *,
    path: str = "/",
    host: str = "127.0.0.1",
    token: str | None = None,
    name: str | None = None,
) -> Stream:
    """A stream of events that clients POST: a JSON object, or a list of them.

    Each worker listens on ``port``. A request is answered with 200 when a checkpoint holds its
    events, so that what was answered is never lost; what was not has to be sent again, and may then
    count twice. 400, 401: it never will be taken; 503: it may be later.

    Args:
        host: Where to listen; ``"0.0.0.0"``, for clients of other machines, asks for a ``token``.
        token: What clients have to send as ``Authorization: Bearer …``.
    """
    return begin(Http(port, path, host, token), name)


def endpoint(url: str, *, token: str | None = None, timeout_s: float = 30.0) -> Endpoint:
    """A model, or a service, behind a URL: for ``infer(endpoint(…))``, and as a sink for
    ``to(call(endpoint(…), each_epoch=True))``.

    It gets a JSON list of events by POST; as a model it answers with a list of as many. While it
    is busy or away it is asked again, and after that the stream begins again from its last
    checkpoint; events that a model refuses (400 and so on) are poison. As a sink of whole epochs it
    is sent an ``Idempotency-Key``: it has each effect once if it stores the key beside it.
    """
    return Endpoint(url, token, timeout_s)


def served(app: str) -> Served:
    """An application of Ray Serve in the same cluster, through its handle, without HTTP: for
    ``infer(served("fraud"))``, and as a sink for ``to(call(served("audit")))``.

    As a model its ingress is called with ``{name: array}`` of a micro-batch and returns as many
    rows; as a sink with a list of events, and with ``each_epoch`` with the epoch's key as well.
    """
    return Served(app)


def kinesis(
    stream: str, *, key: str | None = None, start: Start = "earliest", name: str | None = None
) -> Stream:
    """A stream of Kinesis: its records, each a JSON object; in ``to``, a sink.

    As a source, shards are read by sequence numbers that the checkpoint holds, through splits and
    merges, with the times of arrival. Shards are shared out to the workers; a merge of shards of
    two workers has the tasks begin again from the last checkpoint.
    As a sink, events are put when their checkpoint stands; a crash meanwhile puts some again.

    Args:
        key: As a sink: column whose value decides the shard; events are spread unless given.
        start: Where a stream without a checkpoint begins: ``earliest``, ``latest`` (by this
            machine's clock), or a datetime with its time zone.
    """
    return begin(Kinesis(stream, key, start), name)


def postgres(table: str, dsn: str, *, key: str | Sequence[str] = ()) -> Postgres:
    """A table of PostgreSQL as a sink: each checkpoint's events in one transaction.

    Args:
        table: It must be there; columns are the events' columns.
        dsn: ``postgresql://user@host/database``.
        key: Columns of a unique key: a row that is there is replaced.
    """
    return Postgres(table, dsn, (key,) if isinstance(key, str) else tuple(key))


def call(
    fn: Callable[..., Any] | Endpoint | Served, *, each_epoch: bool = False, columns: Form = False
) -> Call:
    """A function as a sink.

    Args:
        fn: ``fn(events)``, called with each micro-batch as it comes; after a failure some come
            again. It may be an ``async def``, or an :func:`endpoint` or :func:`served`.
        each_epoch: Call ``fn(events, key)`` with everything between two checkpoints, once the
            second one stands. The same key always comes with the same events: an effect that is
            stored together with its key happens once.
        columns: Give ``{name: array}`` in place of a list of dictionaries; as for ``map``.
    """
    if isinstance(fn, Endpoint | Served):
        fn = fn.send
    return Call(fn, each_epoch, columns)
