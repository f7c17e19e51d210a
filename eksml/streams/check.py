"""Is a graph right? All that is wrong is told at once, by the names of its steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from eksml.errors import InvalidSpec, Problem
from eksml.streams.graph import Graph, Node, Step, Stream
from eksml.streams.operators.base import MAIN
from eksml.streams.operators.ends import SinkStep, SourceStep, Timestamps
from eksml.streams.operators.enrich import Enrich
from eksml.streams.operators.infer import Infer
from eksml.streams.operators.join import Join
from eksml.streams.operators.key_by import KeyBy
from eksml.streams.operators.reduce import Reduce
from eksml.streams.operators.stateless import Map, Union
from eksml.streams.operators.window import Window
from eksml.streams.sinks.base import Sink

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
SUBJECT = "the graph"
_EVENT_BY_EVENT = (Map, Infer, Enrich, Union, KeyBy)
"""Steps that give an event for each, so that an update stays one."""
BOUNDS = ("window_start", "window_end")


def checked(streams: Stream | Sequence[Stream]) -> Graph:
    """The graph of streams that end in sinks, its steps named.

    Raises:
        InvalidSpec: With every problem, each under ``step.argument``.
    """
    graph, problems = examine(streams)
    if problems:
        raise InvalidSpec(problems, SUBJECT)
    return graph


def examine(streams: Any) -> tuple[Graph, list[Problem]]:
    """The graph as far as it can be told, and everything that is wrong with it."""
    ends = [streams] if isinstance(streams, Stream) else streams
    good = isinstance(ends, list | tuple) and ends and all(isinstance(e, Stream) for e in ends)
    if not good:
        remedy = "Give a stream that ends with .to(…), or a list of such streams."
        return Graph(), [Problem("graph", f"{streams!r:.80} is no graph.", remedy)]
    problems = []
    for end in ends:
        if not isinstance(end.node.spec, SinkStep):
            message = f"the stream that ends with {end.node.spec.kind} is written nowhere."
            problems.append(Problem("graph", message, "End it with .to(…)."))
    nodes = _in_order(ends)
    names = _names(nodes)
    problems += _name_problems(nodes)
    for node in nodes:
        problems += [
            Problem(f"{names[id(node)]}.{each.path}", each.message, each.remedy)
            for each in (*node.spec.problems(), *_place_problems(node))
        ]
    problems += _update_problems(nodes, names)
    return Graph(tuple(_step(node, names) for node in nodes)), problems


def _in_order(ends: Sequence[Stream]) -> list[Node]:
    """Every node once, after those before it."""
    found: dict[int, Node] = {}

    def visit(node: Node) -> None:
        if id(node) not in found:
            for before, _ in node.inputs:
                visit(before)
            found[id(node)] = node

    for end in ends:
        visit(end.node)
    return list(found.values())


def _names(nodes: Sequence[Node]) -> dict[int, str]:
    """The user's names; else the verb, with a number from the second of its kind on."""
    given = {node.name for node in nodes if node.name}
    seen: Counter[str] = Counter()
    names = {}
    for node in nodes:
        name = node.name
        while not name:
            seen[node.spec.kind] += 1
            number = seen[node.spec.kind]
            made = node.spec.kind if number == 1 else f"{node.spec.kind}-{number}"
            name = made if made not in given else None
        names[id(node)] = name
    return names


def _name_problems(nodes: Sequence[Node]) -> Iterator[Problem]:
    given = [node.name for node in nodes if node.name is not None]
    for name, count in Counter(given).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            remedy = "Use up to 63 letters, digits, '_' or '-'."
            yield Problem("name", f"{name!r:.80} is no name for a step.", remedy)
        elif count > 1:
            yield Problem("name", f"{count} steps are called {name!r}.", "Give each its own name.")


def _place_problems(node: Node) -> Iterator[Problem]:
    """What is wrong with where a step stands."""
    spec = node.spec
    for before, port in node.inputs:
        outputs = before.spec.outputs()
        if port != MAIN and port not in outputs and "*" not in outputs:
            there = f"It has: {', '.join(outputs)}." if outputs else "It has none."
            message = f"{before.spec.kind} has no side output {port!r:.40}."
            yield Problem("side", message, there)
        if isinstance(before.spec, SinkStep):
            yield Problem("input", "a sink gives no events.", "Take them from the step before it.")
    if spec.needs_key and not all(keys_after(before, port) for before, port in node.inputs):
        message = "the events have no key here."
        yield Problem(
            "input",
            message,
            "Put key_by(…) directly before it; only filter and reduce may stand between.",
        )
    if isinstance(spec, Timestamps) and not isinstance(node.inputs[0][0].spec, SourceStep):
        yield Problem("input", "event times belong to a source.", "Put it directly after one.")
    if isinstance(spec, Union) and len(node.inputs) < 2:
        yield Problem("input", "there is only one stream.", "Give union another one.")
    if isinstance(spec, Join):
        yield from _join_problems(node)
    if isinstance(spec, Window):
        for name in sorted({*_keys(node)} & {*BOUNDS}):
            message = f"the key {name!r} has the name of a bound that the window gives."
            yield Problem("input", message, "Give the column another name by map before key_by.")
        yield from _clashes("aggregate", spec.aggregate, {*_keys(node), *BOUNDS})
    if isinstance(spec, Reduce):
        yield from _clashes("fn", spec.fn, set(_keys(node)))


def _update_problems(nodes: Sequence[Node], names: dict[int, str]) -> Iterator[Problem]:
    """Who cannot bear that a window gives its result again, with late events in it."""
    updated: set[int] = set()
    for node in nodes:
        spec, name = node.spec, names[id(node)]
        if not any(id(before) in updated and port == MAIN for before, port in node.inputs):
            if isinstance(spec, Window) and spec.updates:
                updated.add(id(node))
        elif isinstance(spec, _EVENT_BY_EVENT):
            updated.add(id(node))
        elif not isinstance(spec, SinkStep):
            message = "would take a result that a window gives again for another one."
            yield Problem(f"{name}.input", message, "Leave out the window's allowed_lateness.")
        elif isinstance(spec.endpoint, Sink) and not spec.endpoint.replaces():
            yield Problem(
                f"{name}.sink",
                f"{spec.endpoint.kind} cannot replace what a window gives again.",
                "Give it a key if it takes one (postgres, kafka), take streams.call, or leave out "
                "the window's allowed_lateness.",
            )


def _join_problems(node: Node) -> Iterator[Problem]:
    left, right = (keys_after(before, port) for before, port in node.inputs)
    if left and right and len(left) != len(right):
        message = f"the sides have the keys {left} and {right}."
        yield Problem("input", message, "Key both by as many columns.")


def _keys(node: Node) -> tuple[str, ...]:
    return keys_after(*node.inputs[0])


def _clashes(path: str, given: Any, taken: set[str]) -> Iterator[Problem]:
    """Aggregates that would hide a column that the step gives in any case."""
    for name in sorted(taken & set(given if isinstance(given, Mapping) else ())):
        message = "is the name of a column that is there already."
        yield Problem(f"{path}.{name}", message, "Call the aggregate something else.")


def keys_after(node: Node, port: str) -> tuple[str, ...]:
    """Key columns of the events that leave a node; none if they have no key."""
    if port != MAIN:
        return ()
    if isinstance(node.spec, KeyBy):
        by = node.spec.by
        good = not isinstance(by, tuple) or all(isinstance(name, str) for name in by)
        return node.spec.columns if good else ("?",)
    if node.spec.keeps_key and node.inputs:
        return keys_after(*node.inputs[0])
    return ()


def _step(node: Node, names: dict[int, str]) -> Step:
    inputs = tuple((names[id(before)], port) for before, port in node.inputs)
    keys = tuple(name for before, port in node.inputs for name in keys_after(before, port))
    return Step(names[id(node)], node.spec, inputs, keys)
