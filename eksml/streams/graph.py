"""A graph of steps, as the user writes it down: pure data and the user's functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eksml.streams.durations import Duration
from eksml.streams.operators.base import MAIN, Spec
from eksml.streams.operators.ends import SinkStep, SourceStep, Timestamps
from eksml.streams.operators.enrich import Enrich
from eksml.streams.operators.functions import Form
from eksml.streams.operators.infer import Infer
from eksml.streams.operators.join import Join
from eksml.streams.operators.key_by import KeyBy
from eksml.streams.operators.process import Process
from eksml.streams.operators.reduce import Reduce
from eksml.streams.operators.stateless import Filter, FlatMap, Map, Union
from eksml.streams.operators.window import Window
from eksml.streams.sinks.base import Sink
from eksml.streams.sources.base import Source
from eksml.streams.windows import Sliding
from eksml.streams.windows import Window as Windows


@dataclass(frozen=True, eq=False)
class Node:
    """One step: what it does, and whose outputs it takes."""

    spec: Spec
    inputs: tuple[tuple[Node, str], ...]
    """The steps before it, each with the name of the output."""
    name: str | None = None
    """As the user named it."""


@dataclass(frozen=True, eq=False)
class Stream:
    """Events that flow: the output of a step. Methods add a step, and change nothing here.

    >>> import eksml.streams as streams
    >>> graph = (
    ...     streams.generator(lambda split, start: [{"card": 1, "amount": 5.0}])
    ...     .key_by("card")
    ...     .window(streams.tumbling("10s"), aggregate={"total": ("amount", "sum")})
    ...     .to(streams.files("/tmp/totals"))
    ... )

    Every step may be given a ``name``: state in checkpoints belongs to names, so that a new version
    of a graph finds its own. Nothing is checked before the graph is run.
    """

    node: Node
    port: str = MAIN

    def with_time(
        self,
        column: str | Callable[[Any], Any],
        *,
        unit: str = "s",
        delay: Duration = 0,
        idle: Duration = "10s",
    ) -> Stream:
        """Event times from a column, or from a function of an event; directly after a source.

        Args:
            column: A column of numbers since the epoch in ``unit``, or of timestamps.
            unit: ``s``, ``ms`` or ``us``.
            delay: How much later than the latest event another may come and not be late.
            idle: A split that is silent for so long holds no window open.
        """
        return self._then(Timestamps(column, unit, delay, idle), None)

    def map(
        self, fn: Callable[[Any], Any], *, columns: Form = False, name: str | None = None
    ) -> Stream:
        """``fn(event)``, a dictionary, in place of each event.

        With ``columns`` it is called with a micro-batch, ``{name: numpy array}`` (or "arrow": a
        record batch), and returns as many rows: tens of times as fast.
        """
        return self._then(Map(fn, columns), name)

    def filter(
        self, fn: Callable[[Any], Any], *, columns: Form = False, name: str | None = None
    ) -> Stream:
        """Only events for which ``fn`` is true; with ``columns`` it returns an array of booleans.

        Events keep their key."""
        return self._then(Filter(fn, columns), name)

    def flat_map(self, fn: Callable[[Any], Any], *, name: str | None = None) -> Stream:
        """Every event that ``fn(event)`` yields; ``Side(name, event)`` goes to a side output."""
        return self._then(FlatMap(fn), name)

    def key_by(
        self, *by: str | Callable[[Any], Any], column: str = "key", name: str | None = None
    ) -> Stream:
        """Bring events of one key together: by columns, or by ``fn(event)``, which is then in
        ``column``. A key that is null, or missing, is poison."""
        one = len(by) == 1 and not isinstance(by[0], str)
        return self._then(KeyBy(by[0] if one else by, column), name)  # type: ignore[arg-type]

    def reduce(
        self,
        fn: Callable[[Any, Any], Any] | Mapping[str, Any],
        start: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
    ) -> Stream:
        """Each event with its key's running state beside it. Needs a key, and keeps it.

        Args:
            fn: ``fn(state, event)`` that returns the new state, a dictionary of JSON values, and
                changes neither; or built-in aggregates, ``{"total": ("amount", "sum")}``, which
                are computed in columns.
            start: The state before a key's first event; ``{}`` unless given.
        """
        return self._then(Reduce(fn, start), name)

    def window(
        self,
        window: Windows,
        aggregate: Mapping[str, Any] | type,
        *,
        allowed_lateness: Duration = 0,
        name: str | None = None,
    ) -> Stream:
        """An event for each key and window, once the watermark has passed the window's end: the
        key, the aggregates, ``window_start`` and ``window_end``. Needs a key.

        Args:
            window: :func:`tumbling`, :func:`sliding` or :func:`session`.
            aggregate: Built-in ones, ``{"total": ("amount", "sum"), "events": "count"}`` (count,
                sum, min, max, mean, first, last), in columns; or a class with ``add(event)``,
                ``result()`` and, but for tumbling windows, ``merge(other)``, whose attributes are
                JSON values.
            allowed_lateness: How long after its end a window still takes events, and gives its
                result again with them in it: an event with the same key and bounds, whose sink
                must be able to replace the older one. Not for session windows.

        Events that come too late for all of their windows go to the side output ``late``.
        """
        return self._then(Window(window, aggregate, allowed_lateness), name)

    def process(
        self,
        fn: Callable[..., Any],
        *,
        on_timer: Callable[..., Any] | None = None,
        name: str | None = None,
    ) -> Stream:
        """What ``fn(event, state, timing)`` yields. Needs a key.

        ``state`` is the key's dictionary of JSON values, to be changed in place. After
        ``timing.timer(time_us)``, ``on_timer(state, timing)`` is called when event time has come
        there. An event is tried once, since a try may have changed the state.
        """
        return self._then(Process(fn, on_timer), name)

    def join(
        self, other: Stream, window: Sliding, *, how: str = "inner", name: str | None = None
    ) -> Stream:
        """Pairs of events with one key in one window, when the window ends; both sides need a key.

        ``how``: ``inner``, ``left outer``, ``right outer`` or ``full outer``. A column that both
        have is ``…_right`` where it comes from ``other``.
        """
        node = Node(Join(window, how), ((self.node, self.port), (other.node, other.port)), name)
        return Stream(node)

    def union(self, *others: Stream, name: str | None = None) -> Stream:
        """The events of all streams together; order is kept within each."""
        inputs = tuple((each.node, each.port) for each in (self, *others))
        return Stream(Node(Union(), inputs, name))

    def side(self, output: str) -> Stream:
        """A side output of this step: ``late`` of a window, or what :class:`Side` names."""
        return Stream(self.node, output)

    def infer(
        self,
        model: Callable[..., Any],
        *,
        batch: int = 256,
        wait: Duration = "5ms",
        replicas: int = 1,
        cpus: float = 1.0,
        gpus: float = 0.0,
        ordered: bool = True,
        columns: Form = True,
        name: str | None = None,
    ) -> Stream:
        """Events through a model that lives in ``replicas`` actors of its own.

        Args:
            model: A function, or a class that is made once in each actor and then called: with
                ``{name: array}`` of a micro-batch (see ``columns``), returning as many rows; or
                :func:`eksml.streams.served` or :func:`eksml.streams.endpoint`.
            batch: Events of a micro-batch …
            wait: … unless the first of them has waited so long.
            cpus, gpus: Of each actor; a share of a GPU is fine.
            ordered: Whether events leave in the order in which they came.
            columns: As for :meth:`map`; False: the model is called event by event.
        """
        spec = Infer(model, batch, wait, replicas, cpus, gpus, ordered, columns)
        return self._then(spec, name)

    def enrich(
        self, fn: Callable[[Any], Awaitable[Any]], *, concurrency: int = 64, name: str | None = None
    ) -> Stream:
        """``await fn(event)`` in place of each event, up to ``concurrency`` at once, in order."""
        return self._then(Enrich(fn, concurrency), name)

    def to(self, sink: Sink | Stream, *, name: str | None = None) -> Stream:
        """Write the events into a sink. May be called several times on one stream."""
        end = sink.node.spec.endpoint if _is_end(sink) else sink  # type: ignore[union-attr]
        return self._then(SinkStep(end), name)

    def _then(self, spec: Spec, name: str | None) -> Stream:
        return Stream(Node(spec, ((self.node, self.port),), name))


def _is_end(value: Any) -> bool:
    """``kafka("alerts")`` is a stream that begins there; given to ``to`` it is where one ends."""
    return isinstance(value, Stream) and isinstance(value.node.spec, SourceStep)


def begin(endpoint: Source | Any, name: str | None = None) -> Stream:
    """A stream that begins at a source."""
    return Stream(Node(SourceStep(endpoint), (), name))


@dataclass(frozen=True)
class Step:
    """A step of a checked graph."""

    name: str
    spec: Spec
    inputs: tuple[tuple[str, str], ...] = ()
    """Names of the steps before it, and of their outputs."""
    keys: tuple[str, ...] = ()
    """Key columns that its input has."""


@dataclass(frozen=True)
class Graph:
    """A checked graph: steps by name, each after those that it takes events from."""

    steps: tuple[Step, ...] = field(default=())

    def __getitem__(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def picture(self) -> str:
        """The graph in Mermaid's language, which notebooks, GitHub and editors draw."""
        lines = ["flowchart LR"]
        places = {step.name: f"s{index}" for index, step in enumerate(self.steps)}
        for step in self.steps:
            lines.append(f'  {places[step.name]}["{step.name}"]')
            for before, port in step.inputs:
                arrow = f"-- {port} -->" if port else "-->"
                lines.append(f"  {places[before]} {arrow} {places[step.name]}")
        return "\n".join(lines)
