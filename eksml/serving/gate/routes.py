"""What is let through at all: an allowlist.

vLLM's application has routes that load adapters from any path, stop the engine or change its
weights, and only some of them ask for a key. So nothing passes that isn't named here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from eksml.serving.gate.errors import Refused
from eksml.serving.spec import AppSpec, ServeSpec, Terms

Kind = Literal["compute", "keep", "open", "health", "ready"]


@dataclass(frozen=True, slots=True)
class Route:
    """One allowed path.

    ``kind`` says what the door does with it: ``compute`` needs a key, is checked, queued and given
    to the engine; ``keep`` needs a key alone; ``open`` doesn't; ``health`` and ``ready`` are
    answered by the door itself, without a key.
    """

    path: str
    """As it stands in metrics; ``{id}`` for a name."""
    methods: tuple[str, ...]
    kind: Kind
    upload: bool = False
    """Whether the body is a file, which the application below reads and bounds itself."""


_ALWAYS = (
    Route("/v1/models", ("GET",), "keep"),
    Route("/health", ("GET", "HEAD"), "health"),
    Route("/ready", ("GET", "HEAD"), "ready"),
    # Prometheus scrapes pods without our keys. What it reads are sums, no content; who reaches the
    # port is the NetworkPolicy's to say.
    Route("/metrics", ("GET",), "open"),
    # The page asks for a key itself and sends it with each of its requests
    Route("/", ("GET", "HEAD"), "open"),
)
_GENERATE = (
    Route("/v1/chat/completions", ("POST",), "compute"),
    Route("/v1/completions", ("POST",), "compute"),
)
_EMBED = (Route("/v1/embeddings", ("POST",), "compute"),)
_BATCHES = (
    Route("/v1/files", ("GET", "POST"), "keep", upload=True),
    Route("/v1/files/{id}", ("GET", "DELETE"), "keep"),
    Route("/v1/files/{id}/content", ("GET",), "keep"),
    Route("/v1/batches", ("GET", "POST"), "keep"),
    Route("/v1/batches/{id}", ("GET",), "keep"),
    Route("/v1/batches/{id}/cancel", ("POST",), "keep"),
)
_NAMED = re.compile(r"(/v1/(?:files|batches)/)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[a-z]+)?")


class Routes:
    """The allowlist of one application.

    Args:
        allowed: What passes.
        others: Path → why there is no such route here, where there may be one elsewhere.
    """

    def __init__(self, allowed: Iterable[Route], others: Mapping[str, str] | None = None) -> None:
        self.all = tuple(allowed)
        self._routes = {route.path: route for route in self.all}
        self._others = others or {}

    def find(self, method: str, path: str) -> Route:
        """The route of a path as it was sent, to the letter: no slash is added or taken away.

        Raises:
            Refused: 404 or 405.
        """
        route = self._routes.get(path) or self._named(path)
        if route is None:
            raise Refused(404, "unknown_url", self._unknown(method, path))
        if method not in route.methods:
            allowed = ", ".join(route.methods)
            told = f"{method[:16]} is not possible at {route.path}. Use {allowed}."
            headers = [(b"allow", allowed.encode())]
            raise Refused(405, "method_not_allowed", told, headers=headers)
        return route

    def _named(self, path: str) -> Route | None:
        match = _NAMED.fullmatch(path)
        return self._routes.get(f"{match[1]}{{id}}{match[2] or ''}") if match else None

    def _unknown(self, method: str, path: str) -> str:
        told = f"Unknown URL ({method[:16]} {path[:128]!r}). The API begins at /v1."
        return self._others.get(path, told)


def routes_of_model(spec: AppSpec) -> Routes:
    """What passes to a model: the routes of its task, and files if there are batches."""
    task = spec.model.task
    computes = _EMBED if task == "embed" else _GENERATE
    others = {
        route.path: f"{route.path} is not possible: this model's task is {task!r}."
        for route in (*_GENERATE, *_EMBED)
        if route not in computes
    }
    return Routes((*_ALWAYS, *computes, *_batches(spec)), others)


def routes_of_gateway(spec: ServeSpec) -> Routes:
    """What passes to any of several models. Whether one has the task is for its own gate to say."""
    return Routes((*_ALWAYS, *_GENERATE, *_EMBED, *_batches(spec)))


def _batches(terms: Terms) -> tuple[Route, ...]:
    return () if terms.batches is None else _BATCHES
