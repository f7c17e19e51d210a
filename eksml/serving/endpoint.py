"""What ``eksml.serve`` returns: where the models are, how they are, and how they are changed."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from eksml.cluster.table import table
from eksml.errors import ClusterError, InvalidSpec, MissingExtra, Problem, RunFailed
from eksml.serving.apps import parts_of
from eksml.serving.spec import ServeSpec
from eksml.serving.stage import AppState, Stage

if TYPE_CHECKING:
    from openai import OpenAI

LOOK_S = 0.2
START_S = 1800.0
"""A model of hundreds of gigabytes takes minutes to load, a node for it some more to boot."""
_FAILED = "DEPLOY_FAILED"
"""``UNHEALTHY`` is no failure: a replica is gone, and Serve starts another one."""


class Endpoint:
    """Models behind one URL. As a context manager, they are stopped at the end of the block."""

    def __init__(self, spec: ServeSpec, stage: Stage) -> None:
        self.spec = spec
        self._stage = stage

    @property
    def url(self) -> str:
        """The ``base_url`` of OpenAI's clients: it ends with ``/v1``."""
        return f"{self._root}/v1"

    @property
    def models(self) -> tuple[str, ...]:
        """What clients may say in ``model``."""
        return tuple(name for model in self.spec.models for name in model.served_names)

    def client(self, key: str | None = None, **settings: Any) -> OpenAI:
        """OpenAI's own client, set up for these models.

        Args:
            key: An API key, where there are tenants.
            settings: Further arguments of ``openai.OpenAI``.

        Raises:
            MissingExtra: The package is not installed.
        """
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("The client is not installed: pip install openai") from error
        return openai.OpenAI(base_url=self.url, api_key=key or "no key", **settings)

    def status(self) -> dict[str, AppState]:
        """The applications by name, as Serve sees them."""
        found = self._stage.states()
        return {name: found.get(name, AppState("NOT_STARTED")) for name in self._names}

    def wait_ready(self, timeout_s: float = START_S) -> None:
        """Return when every model that is to have replicas answers.

        Raises:
            RunFailed: One cannot be deployed; says why.
            ClusterError: They are not ready in time, or not to be reached from here.
        """
        began_s = time.monotonic()
        while not (self._running(self.status()) and self._answers()):
            if time.monotonic() - began_s > timeout_s:
                raise ClusterError(
                    f"{self._root} is not ready after {timeout_s:g} s. Its applications:\n"
                    f"{self._table()}"
                )
            time.sleep(LOOK_S)

    def update(self, *, wait: bool = True, timeout_s: float = START_S, **changes: Any) -> None:
        """Change what is served, without a lost request: ``update(models=[…], tenants=[…])``.

        New replicas start before old ones go, and what these had begun ends in peace. If a new one
        cannot start, none of the old ones goes, and what was served before is deployed again.

        Args:
            wait: Return when it is done.
            timeout_s: For that.
            changes: Fields of ``ServeSpec``, but for its name and route.

        Raises:
            InvalidSpec: The new specification is wrong; nothing was changed.
            RunFailed: A new replica cannot start; the update is undone.
            ClusterError: As ``wait_ready`` does.
        """
        from eksml.serving.verb import checked

        if fixed := [name for name in ("name", "route") if name in changes]:
            told = "cannot be changed while it is served."
            problems = [Problem(name, told, "Stop it, and serve it anew.") for name in fixed]
            raise InvalidSpec(problems, "the update")
        spec = checked(self.spec.model_copy(update=changes), None)
        before = self.spec
        self._deploy(spec)
        if wait:
            self._settle(before, timeout_s)
        self._delete_all_but(spec, before)

    def stop(self) -> None:
        """Stop serving. Requests under way may end first. Twice is fine."""
        self._stage.delete(self._names)

    @property
    def _root(self) -> str:
        return (self._stage.origin + self.spec.route).rstrip("/")

    @property
    def _names(self) -> list[str]:
        return [part.name for part in parts_of(self.spec, self._stage.origin)]

    def _deploy(self, spec: ServeSpec) -> None:
        self._stage.deploy(parts_of(spec, self._stage.origin))
        self.spec = spec

    def _settle(self, before: ServeSpec, timeout_s: float) -> None:
        """Wait for an update, or undo it: without that, old replicas that die would be replaced by
        ones that cannot start."""
        try:
            self.wait_ready(timeout_s)
        except RunFailed:
            failed = self.spec
            self._deploy(before)
            self._delete_all_but(before, failed)
            raise

    def _delete_all_but(self, kept: ServeSpec, old: ServeSpec) -> None:
        origin = self._stage.origin
        names = {part.name for part in parts_of(kept, origin)}
        if gone := [part.name for part in parts_of(old, origin) if part.name not in names]:
            self._stage.delete(gone)

    def _running(self, states: dict[str, AppState]) -> bool:
        for name, state in states.items():
            if state.status == _FAILED:
                raise RunFailed(f"{name} cannot be served: {state.message or state.status}")
        return all(state.status == "RUNNING" for state in states.values())

    def _answers(self) -> bool:
        """Whether the proxy leads to replicas already. A model without one is not woken up."""
        alone = self.spec.models[0] if len(self.spec.models) == 1 else None
        if alone is not None and alone.replica_range[0] == 0:
            return True
        try:
            with urllib.request.urlopen(f"{self._root}/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def _table(self) -> str:
        rows = [
            (name, state.status, _words(state.replicas), state.message[:200])
            for name, state in self.status().items()
        ]
        return table(("application", "status", "replicas", "message"), rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}: {', '.join(self.models)}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from html import escape

        told = escape(f"{', '.join(self.models)}\n{self._table()}")
        return f'<a href="{escape(self._root)}/">{escape(self.url)}</a><pre>{told}</pre>'


def _words(replicas: Any) -> str:
    return ", ".join(f"{count} {state.lower()}" for state, count in (replicas or {}).items())
