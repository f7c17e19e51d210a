"""Models and services that somebody else runs, called as functions: by ``infer``, or as a sink."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eksml.errors import CallError, NotFound, StorageUnavailable

if TYPE_CHECKING:
    import requests
    from ray.serve.handle import DeploymentHandle

_TRIES = 5
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True)
class Endpoint:
    """A URL that takes a JSON list of events by POST and answers with as many, in their order."""

    url: str
    token: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0

    def __call__(self, events: Any, key: str | None = None) -> Any:
        """The answer.

        Args:
            events: ``{name: array}``, a list of events, or one event, which is sent alone.
            key: Sent as ``Idempotency-Key``: the same key always comes with the same events.

        Raises:
            StorageUnavailable: It does not answer, or is busy, after several tries.
            CallError: It refuses the events, or its answer is no JSON.
        """
        import requests

        from eksml.streams.sinks.values import plain

        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        body = json.dumps(_as_json(events), default=plain).encode()
        try:
            answer = self._session.post(
                self.url, data=body, headers=headers, timeout=self.timeout_s
            )
        except requests.RequestException as error:
            raise StorageUnavailable(f"{self.url} does not answer: {error}") from error
        if answer.status_code in _BUSY or answer.status_code >= 500:
            raise StorageUnavailable(f"{self.url} answers {answer.status_code}: {answer.text:.200}")
        if not answer.ok:
            raise CallError(
                f"{self.url} refuses the events: {answer.status_code} {answer.text:.200}"
            )
        try:
            return answer.json() if answer.content else None
        except ValueError as error:
            raise CallError(
                f"{self.url} answers with what is no JSON: {answer.text:.80}"
            ) from error

    async def send(self, events: Any, key: str | None = None) -> None:
        """The same as a sink, which waits beside other work."""
        await asyncio.to_thread(self, events, key)

    @functools.cached_property
    def _session(self) -> requests.Session:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        again = Retry(
            _TRIES,
            backoff_factor=0.2,
            status_forcelist=_BUSY,
            allowed_methods=None,
            raise_on_status=False,
        )
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=again))
        return session


@dataclass(frozen=True)
class Served:
    """An application of Ray Serve in the same cluster, called through its handle."""

    app: str

    def __call__(self, events: Any, *more: Any) -> Any:
        """What its ingress gives for ``events``, in the form that ``columns`` asks for.

        Raises:
            NotFound: There is no such application.
            StorageUnavailable: None of its replicas can be reached.
        """
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError

        try:
            return self._handle.remote(events, *more).result()
        except (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError) as error:
            raise StorageUnavailable(
                f"The application {self.app!r} is not there: {error}"
            ) from error

    async def send(self, events: Any, *more: Any) -> None:
        """The same as a sink, which waits beside other work."""
        await asyncio.to_thread(self, events, *more)

    @functools.cached_property
    def _handle(self) -> DeploymentHandle[Any]:
        from ray import serve
        from ray.serve.exceptions import RayServeException

        try:
            return serve.get_app_handle(self.app)
        except RayServeException as error:
            raise NotFound(
                f"Ray Serve has no application {self.app!r}. Deploy it first."
            ) from error


def _as_json(events: Any) -> Any:
    """A list of events, or one event."""
    import numpy as np

    columnar = isinstance(events, Mapping) and events
    if not columnar or not all(isinstance(value, np.ndarray) for value in events.values()):
        return events
    lists = {name: values.tolist() for name, values in events.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
