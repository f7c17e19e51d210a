"""``eksml.on_event``: a handler for each message of a queue or topic, on workers as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eksml import env
from eksml.cluster import Demand
from eksml.errors import InvalidSpec, Problem
from eksml.runs import Run
from eksml.runs.begin import begin_run
from eksml.runs.call import check_call, entry_name, pack
from eksml.runs.driver import Attempt, check_free, create
from eksml.runs.record import name_problem
from eksml.storage import URI
from eksml.streams.endpoints.kafka import Kafka
from eksml.streams.endpoints.sqs import Sqs
from eksml.streams.operators.ends import SourceStep
from eksml.streams.operators.functions import function_problems
from eksml.streams.requests.worker import Post

if TYPE_CHECKING:
    from eksml.backends import Running
    from eksml.cluster import Cluster
    from eksml.streams.graph import Stream

MODULE = "eksml.streams"


def on_event(
    source: Stream | Sqs | Kafka,
    handler: Callable[..., Any] | type,
    *,
    scale: tuple[int, int] = (0, 10),
    resources: Mapping[str, float] | None = None,
    receives: int = 3,
    dead_letters: Stream | Sqs | Kafka | None = None,
    idle_s: float = 10.0,
    storage: str | Path | URI | None = None,
    name: str | None = None,
    cluster: Cluster | Running | str | Path | None = None,
    working_dir: str | Path | None = None,
    wait: bool = True,
) -> Run:
    """Handle each message of a queue or topic once in effect, whatever dies and comes again.

    >>> run = eksml.on_event(eksml.streams.sqs("uploads"), Classify, scale=(0, 20), wait=False)
    ...                                                                # doctest: +SKIP

    Workers come when messages wait, Ray finding or buying the nodes, and go when none do. What the
    handler returns is written once as ``requests/<id>/result.json`` in the run's folder.

    Args:
        source: ``eksml.streams.sqs(queue)``, or ``eksml.streams.kafka(topic, servers)``, of JSON
            objects; notifications of S3 become one event for each object. Messages are handled
            side by side, also those of one partition of a topic; ``group`` has the offsets up to
            which all are done, so that its lag is what there is to do.
        handler: ``handler(event)`` or ``handler(event, job)`` (see ``Job``), which returns a JSON
            value; or a class that is made once in each worker and then called.
        scale: Least and most workers.
        resources: Of each worker, by Ray's names; ``{"CPU": 1}`` unless given.
        receives: After so many receives, a message whose handler fails is dead, and so is one
            whose worker has died so often.
        dead_letters: Queue or topic for dead messages; they lie in the run's ``dead`` folder, with
            the reason, in any case.
        idle_s: Seconds without work until a worker goes.
        storage, name, cluster, working_dir, wait: As for :func:`eksml.stream`.

    Returns:
        The run. It goes on until it is cancelled.

    Raises:
        InvalidSpec: Arguments are wrong; says all that is.
        CallError: The handler cannot travel; names the variable that is to blame.
        NotFound, AccessDenied, StorageUnavailable: The storage or the queue cannot be used.
        MissingExtra: The client for Kafka is not installed.
        ClusterNotUp, DoesNotFit: The cluster is not there, or can never place a worker.
        RunNameInUse: A run of that name is going on.
    """
    from eksml.runs.connect import target_of

    given = {"CPU": 1.0} if resources is None else dict(resources)
    begin, letters = _endpoint(source), _endpoint(dead_letters)
    root = _checked(begin, handler, scale, receives, letters, dead_letters, name, storage)
    post_of = _post(begin, handler, receives, letters)
    more: dict[str, Any] = {"scale": tuple(scale), "idle_s": idle_s, "resources": given}
    check_call(serve, {"post": post_of, "more": more})
    root.check_writable()
    if name is not None:
        check_free(root / name)
    _check_there(begin)
    target = target_of(Demand((given,) * max(1, scale[0]), what="workers"), cluster)
    call = None
    if target is not None:
        config = {"requests": (post_of, more)}
        call = pack(serve, config, root, working_dir=working_dir)
    run = create(
        root,
        name,
        verb="stream",
        entry=entry_name(handler),
        spec={"call": str(call) if call else None},
        cluster=target.name if target else None,
    )
    return begin_run(run, lambda: serve(run, post_of, **more), target, module=MODULE, wait=wait)


def serve(
    run: URI,
    post: Callable[[URI], Post],
    *,
    scale: tuple[int, int],
    idle_s: float,
    resources: dict[str, float],
) -> None:
    """Drive the service until it is asked to stop.

    Raises:
        RunCancelled: It was.
        Fenced: Another process took the run over.
    """
    from eksml.streams.requests.scaling import Scaling
    from eksml.streams.requests.service import Service

    with Attempt(run) as attempt:
        Service(attempt, post(run), Scaling(*scale, idle_s=idle_s), resources).run()


def _post(
    source: Sqs | Kafka,
    handler: Callable[..., Any] | type,
    receives: int,
    letters: Sqs | Kafka | None,
) -> Callable[[URI], Post]:
    def post(run: URI) -> Post:
        return Post(source, run, handler, receives, letters)

    return post


def _check_there(source: Sqs | Kafka) -> None:
    if isinstance(source, Sqs):
        source.queue().waiting()
        return
    from eksml.streams.requests.topic import check

    check(source)


def _endpoint(value: Any) -> Any:
    """What a stream begins with; anything else as it is."""
    spec = getattr(getattr(value, "node", None), "spec", None)
    return spec.endpoint if isinstance(spec, SourceStep) else value


def _checked(
    source: Any,
    handler: Any,
    scale: Any,
    receives: Any,
    letters: Any,
    dead_letters: Any,
    name: Any,
    storage: Any,
) -> URI:
    problems = [
        *_end_problems("source", source),
        *_reading_problems(source),
        *function_problems("handler", handler),
        *_scale_problems(scale),
    ]
    if dead_letters is not None:
        problems += _end_problems("dead_letters", letters)
    if isinstance(receives, bool) or not (isinstance(receives, int) and receives > 0):
        problems.append(Problem("receives", f"{receives!r} is no whole number above 0."))
    if name is not None and (problem := name_problem(name)):
        problems.append(problem)
    try:
        root = URI.parse(env.STORAGE() if storage is None else storage)
    except InvalidSpec as error:
        problems += error.problems
    if problems:
        raise InvalidSpec(problems, "eksml.on_event")
    return root


def _end_problems(path: str, end: Any) -> Iterator[Problem]:
    if not isinstance(end, Sqs | Kafka):
        remedy = 'Give eksml.streams.sqs("name") or eksml.streams.kafka("name", servers).'
        yield Problem(path, f"{end!r:.60} is no queue and no topic.", remedy)
        return
    for each in end.problems():
        yield Problem(f"{path}.{each.path}", each.message, each.remedy)


def _reading_problems(source: Any) -> Iterator[Problem]:
    """What a stream can do with a topic, and requests cannot."""
    if not isinstance(source, Kafka):
        return
    if source.values != "json":
        yield Problem("source.values", "requests are JSON objects.", "Leave it out.")
    if source.bounded:
        yield Problem(
            "source.bounded", "requests have no end.", "Leave it out, and cancel the run."
        )


def _scale_problems(scale: Any) -> Iterator[Problem]:
    whole = isinstance(scale, tuple | list) and len(scale) == 2
    if not (whole and all(type(bound) is int for bound in scale) and 0 <= scale[0] <= scale[1] > 0):
        remedy = "Write (0, 20): none at the least, 20 at the most."
        yield Problem("scale", f"{scale!r:.40} is no (least, most).", remedy)
